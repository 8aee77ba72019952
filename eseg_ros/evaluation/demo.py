"""The demo: a drive goes through the real node; scores, pictures, a video and a report come out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from eseg_ros import __version__
from eseg_ros.bag.create import IMAGE_TOPIC, LABEL_TOPIC, render_bag
from eseg_ros.bag.reader import BagReader
from eseg_ros.bag.writer import COMPRESSED_IMAGE
from eseg_ros.engine.manifest import EngineManifest, load_engine, write_atomically
from eseg_ros.evaluation.live import MASK_BAG, MASK_TOPIC, LiveRun, run_live
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.evaluation.report import Report, render_report
from eseg_ros.evaluation.review import Review, picture, scenes

DRIVE_SEED = 2026
DRIVE_RATE_HZ = 10.0

DROPPED = {
    "lost_before_node": "lost between player and node",
    "dropped_busy": "replaced by a newer image before the engine was free",
    "dropped_stale": "too old when the engine was free",
    "rejected": "not usable as an image",
    "failed": "lost to a failure of the engine",
    "lost_after_node": "masks lost between node and recorder",
}
"""Where frames can get lost, in the order of their way: key in summary.json -> words in the report."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What is replayed.

    Attributes:
        bag: bag folder or file.
        topic: its image topic.
        label_topic: its topic of ground truth, mono8 class ids with the images' stamps; None for no scores.
        frames: at most so many images.
    """

    bag: Path
    topic: str
    label_topic: str | None
    frames: int


def render_demo_drive(out: Path, frames: int, width: int = 640, height: int = 480) -> Drive:
    """Render the demo's drive, a street that no engine was trained on, with its ground truth into `OUT/drive`."""
    bag = out / "drive"
    _remove_bag(bag)
    render_bag(bag, seed=DRIVE_SEED, frames=frames, rate_hz=DRIVE_RATE_HZ, width=width, height=height)
    return Drive(bag, IMAGE_TOPIC, LABEL_TOPIC, frames)


def run_demo(drive: Drive, engine: Path, out: Path) -> dict[str, Any]:
    """Replay a drive through the node and write report.html, overlay.png, summary.json and the video.

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
    with BagReader(drive.bag) as bag:
        compressed = bag.image_topic(drive.topic).type == COMPRESSED_IMAGE
        if drive.label_topic is not None:
            bag.image_topic(drive.label_topic)
    _remove_bag(out / MASK_BAG)
    run = run_live(drive.bag, drive.topic, compressed=compressed, engine=engine, folder=out, frames=drive.frames)
    rate_hz = _rate_hz(run)
    with Review(manifest, len(run.received), out / "video", rate_hz or DRIVE_RATE_HZ) as review:
        if run.received:
            answered = scenes(drive.bag, drive.topic, drive.label_topic, run.masks, MASK_TOPIC, len(run.published))
            for scene in tqdm(answered, desc="scoring and drawing", total=len(run.received), unit="frame"):
                review.add(scene)
    summary = _summarize(drive, run, review, manifest, rate_hz)
    if review.best is not None:
        cv2.imwrite(str(out / "overlay.png"), picture(review.best, manifest, review.mask_pixels))
    write_atomically(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    write_atomically(out / "report.html", render_report(_report(drive, run, review, manifest, summary)).encode())
    return summary


def _summarize(drive: Drive, run: LiveRun, review: Review, manifest: EngineManifest, rate_hz: float) -> dict[str, Any]:
    """The numbers of a demo; scores are None without ground truth."""
    latencies = run.latencies_ms()
    frames_in, frames_published = len(run.published), len(run.received)
    scores = review.confusion.scores(manifest.classes.names) if review.confusion.frames else {}
    inference = run.camera_values.get("inference p50 (ms)")
    return {
        "frames_in": frames_in,
        "frames_published": frames_published,
        "frames_dropped": frames_in - frames_published,
        "dropped": _dropped(run),
        "frames_scored": review.confusion.frames,
        "miou": scores.get("miou"),
        "pixel_accuracy": scores.get("pixel_accuracy"),
        "per_class_iou": scores.get("per_class_iou"),
        "latency_ms": {
            f"p{percent}": round(float(np.percentile(latencies, percent)), 2) if latencies else None
            for percent in (50, 95, 99)
        },
        "inference_ms": {"p50": None if inference is None else float(inference)},
        "engine": manifest.name,
        "precision": manifest.precision,
        "runtime": run.engine_values.get("runtime"),
        "device": run.engine_values.get("device"),
        "machine": machine_description(),
        "bag": str(drive.bag),
        "topic": drive.topic,
        "image_size": list(review.image_size),
        "rate_hz": round(rate_hz, 3),
        "version": __version__,
    }


def _dropped(run: LiveRun) -> dict[str, int]:
    """Frames without an answer by where they got lost; empty if the node told nothing."""
    if not run.camera_values:
        return {}
    counters = {key: int(run.camera_values.get(key, 0)) for key in ("received", "published", *DROPPED)}
    counters["lost_before_node"] = len(run.published) - counters["received"]
    counters["lost_after_node"] = counters["published"] - len(run.received)
    return {key: counters[key] for key in DROPPED}


def _rate_hz(run: LiveRun) -> float:
    """Images a second by their stamps; 0 where these tell nothing."""
    stamps = [stamp for stamp, _ in run.published]
    span_ns = max(stamps) - min(stamps) if stamps else 0
    return (len(stamps) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0


def _report(drive: Drive, run: LiveRun, review: Review, manifest: EngineManifest, summary: dict[str, Any]) -> Report:
    scored = summary["miou"] is not None
    pixels = review.confusion.matrix.sum(axis=1) if scored else review.mask_pixels[: len(manifest.classes)]
    return Report(
        title=f"{manifest.name} on {drive.bag.name}",
        subtitle=f"{summary['frames_in']} images were replayed over ROS 2 to the segmentation node, which runs in a "
        f"process of its own, and {summary['frames_published']} masks came back."
        + ("" if scored else " There is no ground truth for this bag, so there are no scores."),
        summary=summary,
        classes=manifest.classes,
        class_shares=(pixels / max(pixels.sum(), 1)).tolist(),
        panels=review.panels,
        panels_note="Spread evenly over the drive"
        + (
            ", and the one with the fewest right pixels. Grey-dark areas of the truth have no class." if scored else "."
        ),
        dropped={words: summary["dropped"].get(key, 0) for key, words in DROPPED.items()},
        latencies_ms=run.latencies_ms(),
        video=review.video,
    )


def _remove_bag(path: Path) -> None:
    """Remove what an earlier demo recorded; nothing that is no bag."""
    if (path / "metadata.yaml").is_file():
        shutil.rmtree(path)
