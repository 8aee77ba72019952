"""`eseg bench`: times engines, stage by stage, side by side."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from eseg_ros.arguments import engine_size

DEFAULT_FOLDER = Path("engines")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--engine", type=Path, nargs="+", default=[], metavar="ENGINE.json", help=f"default: all of {DEFAULT_FOLDER}/"
    )
    parser.add_argument(
        "--size",
        type=engine_size,
        nargs="+",
        default=[],
        metavar="WIDTHxHEIGHT",
        help="fit the engines to these input sizes; default: as they are",
    )
    parser.add_argument(
        "--runtime", nargs="+", default=[], choices=("openvino", "onnxruntime"), help="default: those installed"
    )
    parser.add_argument("--repeat", type=int, default=10, metavar="N", help="rounds of 8 frames; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of the inference library; 0, the default: its choice")
    parser.add_argument(
        "--camera", type=engine_size, metavar="WIDTHxHEIGHT", help="size of the frames; default: each engine's input"
    )
    parser.add_argument("--data", type=Path, metavar="ROOT", help="use frames of ROOT/val; default: rendered frames")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers there")


def run(args: argparse.Namespace) -> int:
    """Time, print a table, and write what was asked for."""
    from eseg_ros.engine.manifest import write_atomically
    from eseg_ros.evaluation.bench import bench

    engines = args.engine or sorted(DEFAULT_FOLDER.glob("*.json"))
    if not engines:
        raise ValueError(f"there is no engine in {DEFAULT_FOLDER.resolve()}; name one: --engine ENGINE.json")
    if args.repeat < 1:
        raise ValueError(f"--repeat is {args.repeat}; expected at least 1")
    report = bench(engines, args.size, args.runtime, args.repeat, args.threads, args.camera, args.data)
    report["command"] = shlex.join(["eseg", *sys.argv[1:]])
    print(bench_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"numbers: {args.json}")
    return 0


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        [
            f"{report['machine']}; load before {report['load']:.1f}; {report['frames']} frames",
            *lines,
            "pre, infer, post: median ms a frame; over: (pre + post) / infer; p95: ms from submit to result;",
            "fps 1, fps 2: frames a second with one and two under way; gain: fps 2 / fps 1",
        ]
    )
