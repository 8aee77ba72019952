"""The demo: a drive goes through the real node, as `eseg evaluate --live` does it; a picture and a video come too."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from eseg_ros.bag.create import IMAGE_TOPIC, LABEL_TOPIC, render_bag
from eseg_ros.engine.manifest import load_engine
from eseg_ros.evaluation.bootstrap import Resampling
from eseg_ros.evaluation.evaluator import Evaluator, Settings
from eseg_ros.evaluation.film import Film
from eseg_ros.evaluation.run import Source, finish_run, request_of
from eseg_ros.evaluation.run_folder import RUN_FILE, SUMMARY_FILE, open_run
from eseg_ros.evaluation.sequences import BagSequence, bag_sequences

DRIVE_SEED = 2026
DRIVE_RATE_HZ = 10.0
PICTURES = 40
_STAMPS = 10


def render_demo_drive(out: Path, frames: int, width: int = 640, height: int = 480) -> BagSequence:
    """Render the demo's drive, a street that no engine was trained on, with its ground truth into `OUT/drive`."""
    bag = out / "drive"
    if (bag / "metadata.yaml").is_file():
        shutil.rmtree(bag)
    render_bag(bag, seed=DRIVE_SEED, frames=frames, rate_hz=DRIVE_RATE_HZ, width=width, height=height)
    return bag_sequences([bag], IMAGE_TOPIC, label_topic=LABEL_TOPIC)[0]


def run_demo(drive: BagSequence, engine: Path, out: Path) -> dict[str, Any]:
    """Replay a drive through the node; write a run's folder, overlay.png and the video.

    Args:
        drive: what to replay.
        engine: manifest path.
        out: an existing folder; what an earlier demo left there is replaced.

    Returns:
        The contents of summary.json.

    Raises:
        EsegError: the engine, the bag or its topics cannot be used, or the node failed; the message says what to do.
    """
    manifest = load_engine(engine).manifest
    rate_hz = _rate_hz(drive)
    _remove_run(out)
    source = Source(drive.name, "labels" if drive.label_topic else None, {"topic": drive.topic})
    settings = Settings(engine, live=True, pictures=PICTURES)
    with open_run(out, request_of(source, settings), [drive]) as run:
        with Film(manifest.classes, out / "video", rate_hz) as film, Evaluator(settings) as evaluator:
            run.store(drive.name, lambda folder: evaluator.evaluate(drive, folder, film.add))
        picture = film.picture()
        if picture is not None:
            cv2.imwrite(str(out / "overlay.png"), picture)
        return finish_run(run, [drive.name], source, settings, Resampling(), video=film.video)


def _rate_hz(drive: BagSequence) -> float:
    """Images a second by the first stamps; the rendered drive's where these tell nothing."""
    stamps = [labeled.frame.stamp_ns for labeled in islice(drive.frames(), _STAMPS)]
    span_ns = stamps[-1] - stamps[0] if stamps else 0
    return (len(stamps) - 1) * 1e9 / span_ns if span_ns > 0 else DRIVE_RATE_HZ


def _remove_run(out: Path) -> None:
    """Remove what an earlier demo left; nothing that is no run."""
    if (out / RUN_FILE).is_file():
        shutil.rmtree(out / "sequences", ignore_errors=True)
        for name in (RUN_FILE, SUMMARY_FILE):
            (out / name).unlink(missing_ok=True)
