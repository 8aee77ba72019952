"""`eseg pseudo-label`: labels frames that have none with a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import positive_float, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "teacher", type=Path, metavar="TEACHER", help="a checkpoint (.ckpt) or an fp32 or fp16 engine (.json)"
    )
    parser.add_argument("frames", type=Path, metavar="FRAMES", help="a folder of images, or a video")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the data set to make: ROOT/SPLIT/images and labels")
    parser.add_argument("--split", default="pseudo", help="default: %(default)s")
    parser.add_argument(
        "--scales",
        type=positive_float,
        nargs="+",
        default=[0.5, 1.0, 2.0],
        help="of the frames, relative to what the teacher was trained for (default: 0.5 1 2)",
    )
    parser.add_argument("--no-flip", action="store_true", help="do not ask for mirror images too")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="pixels no surer than this are ignored (default: %(default)s)"
    )
    parser.add_argument("--every", type=positive_int, default=1, help="of a video, every so manieth frame")


def run(args: argparse.Namespace) -> int:
    """Label the frames. Returns the exit code."""
    from eseg_ros.training.pseudo_labels import PseudoLabelOptions, make_pseudo_labels

    options = PseudoLabelOptions(tuple(args.scales), not args.no_flip, args.threshold, args.every)
    count = make_pseudo_labels(args.teacher, args.frames, args.root, args.split, options)
    print(
        f"{args.root / args.split}: {count.labeled} frames labeled, {count.ignored:.1%} of their pixels ignored; "
        f"{count.kept} were labeled before"
    )
    return 0
