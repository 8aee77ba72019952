"""`eseg data check`: reads a data set once and names its bad files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eseg_ros.labels import CLASS_SETS, ClassSet, class_set

if TYPE_CHECKING:
    from eseg_ros.training.check import SplitCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="holds SPLIT/images/NAME.jpg and SPLIT/labels/NAME.png")
    parser.add_argument(
        "--classes", default="camvid", choices=sorted(CLASS_SETS), help="what the ids mean (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints what each split holds, then every bad file. Returns 1 where there are any, else 0."""
    from eseg_ros.training.check import check_dataset

    classes = class_set(args.classes)
    checks = check_dataset(args.root, classes)
    for check in checks:
        print(describe(check, classes))
    problems = [problem for check in checks for problem in check.problems]
    for problem in problems:
        print(f"bad: {problem}", file=sys.stderr)
    if problems:
        print(f"{args.root}: {len(problems)} problems; mend or remove these files", file=sys.stderr)
    return 1 if problems else 0


def describe(check: SplitCheck, classes: ClassSet) -> str:
    """Frames, sizes and the share of each class of a split, as text."""
    sizes = ", ".join(f"{count} of {width}x{height}" for (width, height), count in sorted(check.sizes.items()))
    total = max(1, int(check.histogram.sum()))
    rows = [*enumerate(classes.names), (classes.ignore_id, "(ignored)")]
    width = max(len(name) for _, name in rows)
    lines = [f"{check.split}: {check.frames} frames; {sizes or 'none readable'}; {len(check.problems)} problems"]
    lines += [f"  {index:3d} {name:<{width}} {check.histogram[index] / total:8.3%}" for index, name in rows]
    return "\n".join(lines)
