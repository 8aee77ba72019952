"""`eseg demo`: a drive goes in, masks and a report come out."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import positive_int
from eseg_ros.errors import BagError

DEFAULT_ENGINE = "eseg_lite_s_street"
RENDERED_FRAMES = 120
MOST_BAG_FRAMES = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bag", type=Path, help="a bag of your own, mcap or sqlite3, instead of the rendered drive")
    parser.add_argument("--topic", help="its image topic, raw or compressed; needed if it has several")
    parser.add_argument("--label-topic", help="its topic of ground truth: mono8 class ids with the images' stamps")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help=f"name or path of an engine ({DEFAULT_ENGINE})")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results (out/demo)")
    parser.add_argument(
        "--frames",
        type=positive_int,
        metavar="N",
        help=f"length of the drive ({RENDERED_FRAMES}), or how much of the bag to play ({MOST_BAG_FRAMES})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and print what came out. Raises an EsegError where it cannot be run."""
    from eseg_ros.evaluation.demo import render_demo_drive, run_demo
    from eseg_ros.evaluation.sequences import bag_sequences
    from eseg_ros.evaluation.summary import summary_text
    from eseg_ros.share import find_engine

    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.bag is None:
        drive = render_demo_drive(arguments.out, arguments.frames or RENDERED_FRAMES)
    else:
        limit = arguments.frames or MOST_BAG_FRAMES
        bags = bag_sequences([arguments.bag], arguments.topic, label_topic=arguments.label_topic, limit=limit)
        if len(bags) > 1:
            raise BagError(f"{arguments.bag} holds {len(bags)} bags; name one, e.g. {bags[0].path}")
        drive = bags[0]
    summary = run_demo(drive, find_engine(arguments.engine), arguments.out)
    print(summary_text(summary))
    print(f"report: {arguments.out / 'report.html'}")
    return 0
