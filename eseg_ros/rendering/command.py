"""`eseg data render`: a rendered data set from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import image_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set; made where it is missing")
    parser.add_argument("--split", required=True, help="e.g. train or val; becomes ROOT/SPLIT/images and labels")
    parser.add_argument("--frames", type=int, required=True, help="number of frames, each of a street of its own")
    parser.add_argument("--seed", type=int, default=0, help="chooses all frames (default: %(default)s)")
    parser.add_argument("--size", type=image_size, default=(480, 360), metavar="WxH", help="pixels (default: 480x360)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Render the split."""
    from eseg_ros.rendering.dataset import render_split

    width, height = args.size
    render_split(args.root, args.split, args.frames, args.seed, width, height, args.workers)
    return 0
