"""`eseg bench`: times engines, stage by stage, side by side, on the CPU or on a GPU."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from eseg_ros.arguments import engine_size, positive_int

if TYPE_CHECKING:
    from eseg_ros.runtime.cuda.network import DeviceNetwork

DEFAULT_FOLDER = Path("engines")
GPU_SIZES = [(1024, 512), (2048, 1024)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--engine",
        type=Path,
        nargs="+",
        default=[],
        metavar="ENGINE.json",
        help=f"default: all of {DEFAULT_FOLDER}/, with --gpu the fp32 ones, which can be fitted to a size",
    )
    parser.add_argument(
        "--size",
        type=engine_size,
        nargs="+",
        default=[],
        metavar="WIDTHxHEIGHT",
        help="fit the engines to these input sizes; default: as they are, with --gpu 1024x512 and 2048x1024",
    )
    parser.add_argument("--repeat", type=positive_int, default=10, metavar="N", help="rounds; default: %(default)s")
    parser.add_argument(
        "--camera", type=engine_size, metavar="WIDTHxHEIGHT", help="size of the frames; default: each engine's input"
    )
    parser.add_argument("--data", type=Path, metavar="ROOT", help="use frames of ROOT/val; default: rendered frames")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers there")
    cpu = parser.add_argument_group("on the CPU")
    cpu.add_argument(
        "--runtime", nargs="+", default=[], choices=("openvino", "onnxruntime"), help="default: those installed"
    )
    cpu.add_argument("--threads", type=int, default=0, help="of the inference library; 0, the default: its choice")
    gpu = parser.add_argument_group("on a GPU")
    gpu.add_argument("--gpu", action="store_true", help="the bare engine and the pipeline around it, on a GPU")
    gpu.add_argument(
        "--network",
        choices=("tensorrt", "rtx", "torch"),
        default="tensorrt",
        help="what runs the engines: TensorRT, TensorRT for RTX (plans are built if they are missing), or PyTorch in "
        "float16, which needs neither; default: %(default)s",
    )
    gpu.add_argument(
        "--peer",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="with --network torch: also these networks of `eseg models`, untrained",
    )
    gpu.add_argument(
        "--frames",
        type=positive_int,
        default=50,
        metavar="N",
        help="frames of each measurement of a round; default: %(default)s",
    )
    gpu.add_argument(
        "--wait", choices=("block", "spin"), default="block", help="how a thread waits for a frame; default: block"
    )


def run(args: argparse.Namespace) -> int:
    """Time, print a table, and write what was asked for."""
    from eseg_ros.engine.manifest import write_atomically

    engines = args.engine or default_engines(fitted=args.gpu)
    if not engines:
        raise ValueError(f"there is no engine in {DEFAULT_FOLDER.resolve()}; name one: --engine ENGINE.json")
    report = run_gpu(args, engines) if args.gpu else run_cpu(args, engines)
    report["command"] = shlex.join(["eseg", *sys.argv[1:]])
    print(gpu_table(report) if args.gpu else bench_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"numbers: {args.json}")
    return 0


def default_engines(*, fitted: bool) -> list[Path]:
    """All of DEFAULT_FOLDER, or those that can be fitted to another size."""
    from eseg_ros.engine.manifest import load_engine

    engines = sorted(DEFAULT_FOLDER.glob("*.json"))
    return [path for path in engines if not fitted or load_engine(path).manifest.precision == "fp32"]


def run_cpu(args: argparse.Namespace, engines: Sequence[Path]) -> dict[str, Any]:
    """See `bench`."""
    from eseg_ros.evaluation.bench import bench

    if args.peer:
        raise ValueError("--peer needs --gpu --network torch: on the CPU only engines are timed")
    return bench(engines, args.size, args.runtime, args.repeat, args.threads, args.camera, args.data)


def run_gpu(args: argparse.Namespace, engines: Sequence[Path]) -> dict[str, Any]:
    """See `bench_gpu`; with TensorRT, what trtexec and the whole node take beside it, where they are installed."""
    from eseg_ros.evaluation.bench import fitted_engines
    from eseg_ros.evaluation.bench_gpu import bench_gpu
    from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions

    if args.peer and args.network != "torch":
        raise ValueError("--peer needs --network torch: TensorRT runs engines, and peers are not exported ones")
    if args.runtime or args.threads:
        raise ValueError("--runtime and --threads are for the CPU; with --gpu choose by --network")
    sizes = args.size or GPU_SIZES
    options = CudaOptions(wait=args.wait)
    measured = args.repeat, args.frames, args.camera, args.data, options
    if args.network == "torch":
        return bench_gpu(torch_networks(engines, args.peer, sizes), *measured)
    with TemporaryDirectory(prefix="eseg_bench_") as folder:
        fitted = [
            path
            for index, engine in enumerate(engines)
            for path in fitted_engines(engine, sizes, Path(folder, str(index)))
        ]
        report = bench_gpu(tensorrt_networks(fitted, args.network), *measured)
        add_references(report, fitted, args)
    return report


def torch_networks(
    engines: Sequence[Path], peers: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> list[DeviceNetwork]:
    """Engines and peers at each size, in PyTorch."""
    if find_spec("torch") is None:
        from eseg_ros.errors import RuntimeUnavailableError

        raise RuntimeUnavailableError("--network torch needs PyTorch: pip install torch")
    from eseg_ros.engine.manifest import load_engine
    from eseg_ros.evaluation.torch_network import engine_network, zoo_network

    zoo = [zoo_network(model, size) for size in sizes for model in peers]
    loaded = [load_engine(path) for path in engines]
    return [*(engine_network(engine, size) for size in sizes for engine in loaded), *zoo]


def tensorrt_networks(engines: Sequence[Path], target: str) -> list[DeviceNetwork]:
    """Engines in TensorRT, whose plans are built when they are loaded, if they are missing."""
    from eseg_ros.engine.manifest import load_engine
    from eseg_ros.runtime.tensorrt.network import TensorRtNetwork

    return [TensorRtNetwork(load_engine(path), target, auto_build=True) for path in engines]


def add_references(report: dict[str, Any], engines: Sequence[Path], args: argparse.Namespace) -> None:
    """Add "trtexec" and "node" to each configuration, where they can be timed here."""
    from eseg_ros.errors import EsegError
    from eseg_ros.evaluation.bench import frame_images, input_size
    from eseg_ros.evaluation.bench_gpu import percentiles
    from eseg_ros.evaluation.trtexec import find_trtexec, plan_of, run_trtexec

    program = find_trtexec() if args.network == "tensorrt" else None
    for engine, configuration in zip(engines, report["configurations"], strict=True):
        try:
            if program is not None:
                command, times_ms = run_trtexec(program, plan_of(engine))
                configuration["trtexec"] = percentiles(times_ms) | {"command": shlex.join(command)}
            if find_spec("rclpy") is not None and find_spec("rosbags") is not None:
                from eseg_ros.evaluation.bench_node import time_node

                images = list(frame_images(args.camera or input_size(engine), args.data))
                with TemporaryDirectory(prefix="eseg_bench_node_") as folder:
                    configuration["node"] = time_node(engine, args.network, images, Path(folder))
        except EsegError as error:  # the numbers so far are kept
            print(f"eseg bench: nothing beside {configuration['name']}: {error}", file=sys.stderr)


def bench_table(report: dict[str, Any]) -> str:
    """A report of `bench` as text, a line a configuration; medians, milliseconds."""
    rows = [("engine", "runtime", "input", "camera", "pre", "infer", "post", "over", "p95", "fps 1", "fps 2", "gain")]
    for result in report["configurations"]:
        medians = [f"{result[f'{stage}_ms']['median']:.2f}" for stage in ("preprocess", "inference", "postprocess")]
        rows.append(
            (
                *(result[key] for key in ("engine", "runtime", "input", "camera")),
                *medians,
                f"{result['overhead']:.1%}",
                f"{result['latency_ms']['p95']:.1f}",
                f"{result['fps_depth1']:.1f}",
                f"{result['fps_depth2']:.1f}",
                f"{result['depth2_gain']:.2f}",
            )
        )
    return "\n".join(
        [
            f"{report['machine']}; load before {report['load']:.1f}; {report['frames']} frames",
            *aligned_columns(rows),
            "pre, infer, post: median ms a frame; over: (pre + post) / infer; p95: ms from submit to result;",
            "fps 1, fps 2: frames a second with one and two under way; gain: fps 2 / fps 1",
        ]
    )


def gpu_table(report: dict[str, Any]) -> str:
    """A report of `bench_gpu` as text, a line a configuration; medians, milliseconds; then the limits."""
    header = ("engine", "input", "plain", "graph", "copies", "pre", "infer", "post", "rest")
    rows = [(*header, "p50", "p95", "p99", "fps 1", "fps 2", "latency", "through")]
    for result in report["configurations"]:
        bare = {launch: times["p50"] for launch, times in result["bare"].items()}
        stages = [result[f"{stage}_ms"]["p50"] for stage in ("copies", "preprocess", "inference", "postprocess")]
        times = [*stages, result["rest_ms"], *(result["latency_ms"][key] for key in ("p50", "p95", "p99"))]
        rows.append(
            (
                result["name"],
                result["input"],
                f"{bare['plain']:.3f}",
                f"{bare['graph']:.3f}" if "graph" in bare else "-",
                *(f"{value:.3f}" for value in times),
                f"{result['fps_depth1']:.1f}",
                f"{result['fps_depth2']:.1f}",
                *(verdict(result["limits"][name]) for name in ("latency", "throughput")),
            )
        )
    gpu = report["gpu"]
    references = [
        f"{name}, {result['name']} {result['input']}: "
        + "p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f} ms".format(**result[name])
        for result in report["configurations"]
        for name in ("trtexec", "node")
        if name in result
    ]
    return "\n".join(
        [
            f"{report['machine']}; {gpu['name']}, {report['driver']}; {report['frames']} frames",
            *aligned_columns(rows),
            *references,
            "plain, graph: the bare engine, launched piece by piece and as a CUDA graph; copies: the host's, into and",
            "out of page-locked memory; pre, post: kernels and transfers; rest: all else of a frame; p50 to p99: ms",
            "from submit to result; fps 1, fps 2: with one and two under way; latency: p50 / (copies + pre + bare +",
            "post), at most 1.05; through: fps 2 / the bare engine's, at least 0.97; ! = beyond the limit",
        ]
    )


def verdict(limit: dict[str, Any]) -> str:
    """A ratio, with a mark where it is beyond its limit."""
    return f"{limit['ratio']:.3f}{' ' if limit['held'] else '!'}"


def aligned_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line a row, its cells aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
