"""`eseg evaluate`: scores an engine on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from eseg_ros.runtime.select import RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--engine", type=Path, required=True, metavar="ENGINE.json", help="the engine's manifest")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="data set: ROOT/SPLIT/images and ROOT/SPLIT/labels"
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--runtime", default="auto", choices=RUNTIMES, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of the inference library; 0, the default: its choice")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores there")
    parser.add_argument("--write-manifest", action="store_true", help="record the scores in the engine's manifest")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, and write what was asked for."""
    from eseg_ros.engine.manifest import write_atomically
    from eseg_ros.evaluation.offline import evaluate, record_scores

    report = evaluate(args.engine, args.data, args.split, args.runtime, args.threads)
    print(score_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"scores: {args.json}")
    if args.write_manifest:
        print(f"recorded in {record_scores(args.engine, report)}")
    return 0


def score_table(report: dict[str, Any]) -> str:
    """A report of `evaluate` as text, a line a class."""
    classes = report["per_class_iou"]
    width = max(len(name) for name in ("pixel accuracy", *classes))
    lines = [f"{name:<{width}}  {_percent(iou)}" for name, iou in classes.items()]
    return "\n".join(
        [
            f"{report['engine']} on {report['data']}: {report['frames']} frames, "
            f"{report['runtime']} {report['precision']}, IoU in %",
            *lines,
            "-" * (width + 7),
            f"{'mIoU':<{width}}  {_percent(report['miou'])}",
            f"{'pixel accuracy':<{width}}  {_percent(report['pixel_accuracy'])}",
        ]
    )


def _percent(score: float | None) -> str:
    return "    -" if score is None else f"{100 * score:5.1f}"
