"""`eseg soak`: the node on a looping bag, and whether what it holds grows."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from eseg_ros.arguments import positive_float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--engine", default="eseg_lite_s_street", help="name or path; default: %(default)s")
    parser.add_argument("--bag", type=Path, help="default: a rendered drive of 10 s")
    parser.add_argument("--topic", help="its image topic; needed if it has several")
    parser.add_argument("--minutes", type=positive_float, default=30.0, help="default: 30")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="times the recorded speed; default: 1")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="takes the numbers, the plot, the log"
    )


def run(args: argparse.Namespace) -> int:
    """Watch, write what was seen and say what grew; 1 if anything did."""
    from eseg_ros.bag.create import IMAGE_TOPIC, render_bag
    from eseg_ros.evaluation.machine import machine_description
    from eseg_ros.evaluation.soak import PAGE_FILE, growth, soak, write_report
    from eseg_ros.share import find_engine

    args.out.mkdir(parents=True, exist_ok=True)
    bag, topic = (args.bag, args.topic) if args.bag else (args.out / "drive", IMAGE_TOPIC)
    if not args.bag and not bag.exists():
        render_bag(bag, seed=0, frames=100, rate_hz=10, width=640, height=480)
    samples, published = soak(find_engine(args.engine), bag, topic, args.minutes * 60, args.out, rate=args.rate)
    report = {
        "machine": machine_description(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["eseg", *sys.argv[1:]]),
        "minutes": args.minutes,
        "published": published,
        "growth": growth(samples),
        "samples": [asdict(sample) for sample in samples],
    }
    write_report(report, args.out)
    for name, judged in report["growth"].items():
        print(f"{name}: {judged['from']:g} to {judged['to']:g}{'' if judged['held'] else ', which is growth'}")
    print(f"{published} masks in {args.minutes:g} minutes; plot: {args.out / PAGE_FILE}")
    return 0 if all(judged["held"] for judged in report["growth"].values()) else 1
