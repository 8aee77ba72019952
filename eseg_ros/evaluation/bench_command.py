"""`eseg bench`: times networks on the CPU, stage by stage, side by side; --gpu and --node are benches of their own."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eseg_ros.arguments import engine_size, positive_int
from eseg_ros.errors import UsageError

OTHERS = {
    "gpu": ("eseg_ros.evaluation.bench_gpu_command", "engines on a GPU, bare and in the pipeline"),
    "node": ("eseg_ros.evaluation.bench_transport", "what the node costs around its engine, beside the usual way"),
}
"""Benches with options of their own: the option that begins them -> (module, what they time)."""


class _Other(argparse.Action):
    """Takes the rest of the command line for a bench of OTHERS."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = [name for name, value in vars(namespace).items() if value != parser.get_default(name)]
        if before:
            parser.error(
                f"--{self.dest} has options of its own, and --{before[0].replace('_', '-')} stands before it; write "
                f"{option_string} first, and see {parser.prog} {option_string} --help"
            )
        namespace.other = (self.dest, values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = "Without --gpu or --node: on the CPU, in the node's pipeline."
    parser.set_defaults(other=None)
    for name, (_, what) in OTHERS.items():
        parser.add_argument(
            f"--{name}",
            nargs=argparse.REMAINDER,
            action=_Other,
            default=argparse.SUPPRESS,
            metavar="OPTION",
            help=f"{what}; its options: eseg bench --{name} --help",
        )
    timed = parser.add_argument_group("what is timed")
    timed.add_argument(
        "--engine",
        type=Path,
        nargs="+",
        default=[],
        metavar="ENGINE.json",
        help="engines; default: all of engines/, if no model and no file is named either",
    )
    timed.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="networks of `eseg models`, untrained, or all: their inference alone; variants: eseg_lite_s+kernel=3",
    )
    timed.add_argument(
        "--onnx",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.onnx",
        help="networks of others, from one float32 image, NCHW; without class scores for output the inference alone",
    )
    timed.add_argument(
        "--size",
        type=engine_size,
        nargs="+",
        default=[],
        metavar="WIDTHxHEIGHT",
        help="input sizes, which engines are fitted to; default: as they are",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--runtime", nargs="+", default=[], choices=("openvino", "onnxruntime"), help="default: those installed"
    )
    how.add_argument("--bf16", action="store_true", help="fp32 networks in OpenVINO's bfloat16 arithmetic too")
    how.add_argument("--int8", action="store_true", help="the networks of --model quantized too")
    how.add_argument("--threads", type=int, default=0, help="of the inference library; 0, the default: its choice")
    how.add_argument("--repeat", type=positive_int, default=10, metavar="N", help="rounds; default: %(default)s")
    how.add_argument(
        "--camera", type=engine_size, metavar="WIDTHxHEIGHT", help="size of the frames; default: each network's input"
    )
    how.add_argument("--data", type=Path, metavar="ROOT", help="use frames of ROOT's val; default: rendered frames")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--split", default="", metavar="SPLIT", help="with --data: use frames of this split, and score engines on it"
    )
    results.add_argument("--plot", type=Path, metavar="FILE.svg", help="with --split: draw accuracy over latency")
    results.add_argument("--json", type=Path, metavar="OUT", help="write all numbers there")


def run(args: argparse.Namespace) -> int:
    """Time, print a table, and write what was asked for."""
    if args.other:
        return run_other(*args.other)
    check_plot(args)
    from eseg_ros.engine.manifest import write_atomically
    from eseg_ros.evaluation.bench_plot import bench_plot
    from eseg_ros.evaluation.bench_table import bench_table

    report = run_cpu(args)
    report["command"] = shlex.join(["eseg", *sys.argv[1:]])
    print(bench_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"numbers: {args.json}")
    if args.plot:
        write_atomically(args.plot, bench_plot(report).encode())
        print(f"plot: {args.plot}")
    return 0


def run_other(name: str, words: Sequence[str]) -> int:
    """Run a bench of OTHERS with the rest of the command line."""
    module_name, what = OTHERS[name]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"eseg bench --{name}", description=f"Times {what}.")
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(words))
    return status


def check_plot(args: argparse.Namespace) -> None:
    """Refuse now what would be missing when all is measured.

    Raises:
        UsageError: there will be nothing to draw, or no way to draw it.
    """
    if args.split and not args.data:
        raise UsageError("--split names what engines are scored on; say of which data set: --data ROOT")
    if args.plot and not args.split:
        raise UsageError("--plot draws accuracy over latency; say what to score on: --data ROOT --split val")
    if args.plot and args.plot.suffix != ".svg":
        raise UsageError(
            f"--plot writes SVG; {args.plot} ends otherwise. Name it {args.plot.with_suffix('.svg')} and, for a PNG: "
            "chromium --headless --window-size=1000,640 --screenshot=plot.png plot.svg"
        )


def run_cpu(args: argparse.Namespace) -> dict[str, Any]:
    """See `bench`."""
    from eseg_ros.evaluation.bench import Terms, bench
    from eseg_ros.evaluation.bench_peers import peer_subjects
    from eseg_ros.evaluation.bench_subjects import engine_subjects, model_subjects
    from eseg_ros.evaluation.bench_table import default_engines

    if args.int8 and not args.model:
        raise UsageError("--int8 is for --model; quantize an engine by eseg quantize, and name both with --engine")
    engines = args.engine
    if not (engines or args.model or args.onnx):
        engines = default_engines(fitted=bool(args.size))
    terms = Terms(args.runtime, args.bf16, args.repeat, args.threads, args.camera, args.data, args.split)
    with TemporaryDirectory(prefix="eseg_bench_") as name:
        folder = Path(name)
        models = all_models() if args.model == ["all"] else args.model
        subjects = [
            *engine_subjects(engines, args.size, folder / "engines"),
            *model_subjects(models, args.size, folder / "models", int8=args.int8),
            *peer_subjects(args.onnx, args.size, folder / "peers"),
        ]
        return bench(subjects, terms)


def all_models() -> list[str]:
    """All of `eseg models`."""
    from eseg_ros.models.zoo import MODELS

    return list(MODELS)
