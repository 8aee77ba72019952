"""`eseg demo`: a drive goes in, masks and a report come out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from eseg_ros.arguments import positive_int

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
    from eseg_ros.bag.reader import BagReader
    from eseg_ros.evaluation.demo import Drive, render_demo_drive, run_demo
    from eseg_ros.share import find_engine

    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.bag is None:
        drive = render_demo_drive(arguments.out, arguments.frames or RENDERED_FRAMES)
    else:
        with BagReader(arguments.bag) as bag:
            topic = bag.image_topic(arguments.topic).name
        drive = Drive(arguments.bag, topic, arguments.label_topic, arguments.frames or MOST_BAG_FRAMES)
    summary = run_demo(drive, find_engine(arguments.engine), arguments.out)
    print(describe(summary, arguments.out))
    return 0


def describe(summary: dict[str, Any], out: Path) -> str:
    """What came out, for the terminal."""
    latency = ", ".join(f"{name} {'-' if ms is None else f'{ms:.1f}'}" for name, ms in summary["latency_ms"].items())
    lines = [
        f"engine      {summary['engine']} by {summary['runtime']} on {summary['device']}",
        f"frames      {summary['frames_in']} in, {summary['frames_published']} published, "
        f"{summary['frames_dropped']} dropped",
        f"latency ms  {latency} (inference p50 {summary['inference_ms']['p50']})",
    ]
    if summary["miou"] is not None:
        classes = [f"{name} {'-' if iou is None else f'{iou:.3f}'}" for name, iou in summary["per_class_iou"].items()]
        lines.append(f"mIoU        {summary['miou']:.3f}, pixel accuracy {summary['pixel_accuracy']:.3f}")
        lines.append(f"IoU         {', '.join(classes)}")
    return "\n".join([*lines, f"report      {out / 'report.html'}"])
