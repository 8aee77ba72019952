"""`eseg bag`: makes and plays bags."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from eseg_ros.arguments import image_size, positive_float, positive_int

STORAGES = ("mcap", "sqlite3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands and their arguments."""
    jobs = parser.add_subparsers(metavar="JOB", required=True)
    _add_create(jobs.add_parser("create", help="make a bag from a folder of images"))
    _add_render(jobs.add_parser("render", help="render a drive with ground truth into a bag"))
    play = jobs.add_parser("play", help="replay a bag over ROS 2, with /clock")
    add_play_arguments(play)
    play.set_defaults(bag_job=_play)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit status. Raises a BagError where it cannot be done."""
    job: Callable[[argparse.Namespace], int] = arguments.bag_job
    return job(arguments)


def add_play_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a replay, for `eseg bag play` and for the executable `bag_player` alike."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="bag folder, .mcap or .db3 file")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="times the recorded speed (1.0)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="play only these topics")
    parser.add_argument(
        "--wait-for-subscribers",
        type=int,
        default=0,
        metavar="N",
        help="begin once an image topic has N subscribers (0: begin at once)",
    )
    parser.add_argument(
        "--wait-timeout", type=positive_float, default=10.0, metavar="S", help="give up waiting for them after (10)"
    )


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="the new bag's folder")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image files, played by name")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="label files (class ids) with the images' names")
    parser.add_argument("--compressed", action="store_true", help="CompressedImage with the files' own bytes")
    parser.add_argument("--rate", type=positive_float, required=True, metavar="HZ", help="frames a second")
    _add_output_arguments(parser)
    parser.set_defaults(bag_job=_create)


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="the new bag's folder")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another street (0)")
    parser.add_argument("--frames", type=positive_int, default=120, help="length of the drive (120)")
    parser.add_argument("--rate", type=positive_float, default=10.0, metavar="HZ", help="frames a second (10)")
    parser.add_argument("--size", type=image_size, default=(640, 480), metavar="WxH", help="pixels (640x480)")
    _add_output_arguments(parser)
    parser.set_defaults(bag_job=_render)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", default="/camera/image_raw", help="images (/camera/image_raw)")
    parser.add_argument("--label-topic", default="/camera/label", help="labels, mono8 (/camera/label)")
    parser.add_argument("--format", choices=STORAGES, default=STORAGES[0], help="storage (mcap)")


def _create(arguments: argparse.Namespace) -> int:
    from eseg_ros.bag.create import create_bag

    count = create_bag(
        arguments.output,
        arguments.images,
        arguments.labels,
        arguments.rate,
        topic=arguments.topic,
        label_topic=arguments.label_topic,
        compressed=arguments.compressed,
        storage=arguments.format,
    )
    print(f"{arguments.output}: {count} frames; play it: eseg bag play {arguments.output}")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    from eseg_ros.bag.create import render_bag

    width, height = arguments.size
    render_bag(
        arguments.output,
        seed=arguments.seed,
        frames=arguments.frames,
        rate_hz=arguments.rate,
        width=width,
        height=height,
        topic=arguments.topic,
        label_topic=arguments.label_topic,
        storage=arguments.format,
    )
    print(f"{arguments.output}: {arguments.frames} frames; play it: eseg bag play {arguments.output}")
    return 0


def _play(arguments: argparse.Namespace) -> int:
    from eseg_ros.node.bag_player import play_bag

    return play_bag(arguments, ros_arguments=[])
