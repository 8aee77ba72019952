"""`eseg bench --gpu`: times engines on a GPU, bare and in the pipeline, side by side."""

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
from eseg_ros.errors import UsageError
from eseg_ros.evaluation.bench_table import default_engines
from eseg_ros.text_table import aligned_columns

if TYPE_CHECKING:
    from eseg_ros.runtime.cuda.network import DeviceNetwork

SIZES = [(1024, 512), (2048, 1024)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--engine", type=Path, nargs="+", default=[], metavar="ENGINE.json", help="default: the fp32 ones of engines/"
    )
    parser.add_argument(
        "--size",
        type=engine_size,
        nargs="+",
        default=SIZES,
        metavar="WIDTHxHEIGHT",
        help="fit the engines to these input sizes; default: 1024x512 and 2048x1024",
    )
    parser.add_argument(
        "--network",
        choices=("tensorrt", "rtx", "torch"),
        default="tensorrt",
        help="what runs the engines: TensorRT, TensorRT for RTX (plans are built if they are missing), or PyTorch in "
        "float16, which needs neither; default: %(default)s",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="with --network torch: also these networks of `eseg models`, untrained",
    )
    parser.add_argument("--repeat", type=positive_int, default=10, metavar="N", help="rounds; default: %(default)s")
    parser.add_argument(
        "--frames",
        type=positive_int,
        default=50,
        metavar="N",
        help="frames of each measurement of a round; default: %(default)s",
    )
    parser.add_argument(
        "--camera", type=engine_size, metavar="WIDTHxHEIGHT", help="size of the frames; default: each engine's input"
    )
    parser.add_argument("--data", type=Path, metavar="ROOT", help="use frames of ROOT's val; default: rendered frames")
    parser.add_argument(
        "--wait", choices=("block", "spin"), default="block", help="how a thread waits for a frame; default: block"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers there")


def run(args: argparse.Namespace) -> int:
    """Time, print a table, and write what was asked for."""
    from eseg_ros.engine.manifest import write_atomically

    report = run_gpu(args, args.engine or default_engines(fitted=True))
    report["command"] = shlex.join(["eseg", *sys.argv[1:]])
    print(gpu_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"numbers: {args.json}")
    return 0


def run_gpu(args: argparse.Namespace, engines: Sequence[Path]) -> dict[str, Any]:
    """See `bench_gpu`; with TensorRT, what trtexec and the whole node take beside it, where they are installed."""
    from eseg_ros.evaluation.bench import fitted_engines
    from eseg_ros.evaluation.bench_gpu import bench_gpu
    from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions

    if args.model and args.network != "torch":
        raise UsageError("--model needs --network torch: TensorRT runs engines, and these are no exported ones")
    options = CudaOptions(wait=args.wait)
    measured = args.repeat, args.frames, args.camera, args.data, options
    if args.network == "torch":
        return bench_gpu(torch_networks(engines, args.model, args.size), *measured)
    with TemporaryDirectory(prefix="eseg_bench_") as folder:
        fitted = [
            path
            for index, engine in enumerate(engines)
            for path in fitted_engines(engine, args.size, Path(folder, str(index)))
        ]
        report = bench_gpu(tensorrt_networks(fitted, args.network), *measured)
        add_references(report, fitted, args)
    return report


def torch_networks(
    engines: Sequence[Path], models: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> list[DeviceNetwork]:
    """Engines and networks of the zoo at each size, in PyTorch."""
    if find_spec("torch") is None:
        from eseg_ros.errors import RuntimeUnavailableError

        raise RuntimeUnavailableError("--network torch needs PyTorch: pip install torch")
    from eseg_ros.engine.manifest import load_engine
    from eseg_ros.evaluation.torch_network import engine_network, zoo_network

    zoo = [zoo_network(model, size) for size in sizes for model in models]
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
            *aligned_columns(rows, right=True),
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
