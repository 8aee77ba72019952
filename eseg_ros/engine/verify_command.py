"""`eseg verify`: compares an engine's masks with those of the engine that it was made from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from eseg_ros.arguments import positive_int
from eseg_ros.runtime import RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("engine", type=Path, metavar="ENGINE.json", help="the engine in question")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        metavar="REFERENCE.json",
        help="the engine it was made from, or the same one to compare two runtimes",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="data set; labels are not needed")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--frames", type=positive_int, metavar="N", help="spread over the split; default: all")
    parser.add_argument("--runtime", default="auto", choices=RUNTIMES, help="for ENGINE; default: %(default)s")
    parser.add_argument(
        "--reference-runtime", default="auto", choices=RUNTIMES, help="for REFERENCE; default: %(default)s"
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        metavar="PERCENT",
        help="least share of equal pixels; default: fp32 99.9, fp16 99.5, int8 98",
    )
    parser.add_argument(
        "--max-drop", type=float, metavar="POINTS", help="most mIoU lost; default: fp32 0.1, fp16 0.5, int8 1.5"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report there")
    parser.add_argument("--write-manifest", action="store_true", help="record the result in the engine's manifest")


def run(args: argparse.Namespace) -> int:
    """Compare, print a table, write what was asked for; 1 where a limit is passed."""
    from eseg_ros.engine.manifest import load_engine, write_atomically
    from eseg_ros.engine.verify import LIMITS, Limits, record_plan, record_verification, verify

    default = LIMITS[load_engine(args.engine).manifest.precision]
    limits = Limits(
        agreement=default.agreement if args.min_agreement is None else args.min_agreement / 100,
        miou_drop=default.miou_drop if args.max_drop is None else args.max_drop,
    )
    report = verify(
        args.engine,
        args.against,
        args.data,
        args.split,
        frames=args.frames,
        limits=limits,
        runtime=args.runtime,
        reference_runtime=args.reference_runtime,
    )
    print(verification_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"report: {args.json}")
    if (plan := record_plan(report)) is not None:
        print(f"noted with the plan: {plan}")
    if args.write_manifest:
        print(f"recorded in {record_verification(args.engine, report)}")
    for failure in report["failures"]:
        print(f"eseg: {report['engine']}: {failure}", file=sys.stderr)
    return 0 if report["passed"] else 1


def verification_table(report: dict[str, Any]) -> str:
    """A report of `verify` as text."""
    lines = [
        f"{report['engine']} ({report['runtime']}) against {report['reference_engine']} "
        f"({report['reference_runtime']}) on {report['data']}: {report['frames']} frames",
        f"equal pixels {report['agreement']:.2%} (expected at least {report['limits']['agreement']:.2%})",
    ]
    if report["miou_drop"] is None:
        lines.append("no labels: the masks were only compared with each other")
    else:
        lines += _score_lines(report)
    lines.append("worst frames")
    lines += [f"  {frame['name']}  {frame['agreement']:.2%}" for frame in report["worst_frames"]]
    return "\n".join(lines)


def _score_lines(report: dict[str, Any]) -> list[str]:
    """A line a class, then the mIoU; IoU in percent, the drop in points."""
    ious = [
        (name, report["reference_per_class_iou"][name], iou)
        for name, iou in report["per_class_iou"].items()
        if iou is not None
    ]
    rows = [*ious, ("mIoU", report["reference_miou"], report["miou"])]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'IoU in %':<{width}}  reference  engine   drop"]
    lines += [
        f"{name:<{width}}  {100 * before:9.2f}  {100 * after:6.2f}  {round(100 * (before - after), 2) + 0.0:5.2f}"
        for name, before, after in rows
    ]
    lines[-1] += f" (expected at most {report['limits']['miou_drop']:.2f})"
    return lines
