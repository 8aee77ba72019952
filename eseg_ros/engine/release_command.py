"""`eseg release`: from a training run to engines with scores, in one line."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import engine_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run, or a checkpoint")
    parser.add_argument("--name", required=True, help="of the fp32 engine; the others append their precision")
    parser.add_argument("--size", type=engine_size, metavar="WxH", help="of the engines' input; default: as trained")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="data set to calibrate and judge on")
    parser.add_argument("--split", default="val", help="scored and verified on; default: %(default)s")
    parser.add_argument("--calibration-split", default="train", help="int8 scales come from it; default: %(default)s")
    choices = ("fp16", "int8")
    parser.add_argument("--precisions", nargs="*", choices=choices, default=choices, help="besides fp32; default: both")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="FOLDER", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Release and say what came of it. Raises an EsegError where a gate does not hold."""
    from eseg_ros.engine.release import release

    released = release(
        args.run,
        args.name,
        args.out,
        args.data,
        args.split,
        tuple(args.precisions),
        args.calibration_split,
        size=args.size,
    )
    for engine in released:
        equal = "" if engine.agreement is None else f", {engine.agreement:.2%} of the pixels as in fp32"
        print(f"{engine.path}: mIoU {engine.miou:.3f}{equal}")
    return 0
