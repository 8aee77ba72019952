"""The whole node's time for an engine: images over DDS in, masks over DDS out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from eseg_ros.bag.create import FRAME_ID, IMAGE_TOPIC
from eseg_ros.bag.writer import BagWriter
from eseg_ros.evaluation.bench import rounded
from eseg_ros.evaluation.live import LiveError, run_live
from eseg_ros.evaluation.processes import NODE_LOG
from eseg_ros.runtime.types import Image8


def time_node(
    engine: Path, runtime: str, images: Sequence[Image8], folder: Path, frames: int = 100, rate_hz: float = 20.0
) -> dict[str, Any]:
    """Replay images to the node at a rate that it can follow.

    Args:
        engine: manifest.
        runtime: the node's parameter of this name.
        images: (H, W, 3) BGR, replayed over and over.
        folder: for the bag, the masks and the node's log; must exist and be empty.
        frames: images in all.
        rate_hz: images a second.

    Returns:
        p50, p95, p99: milliseconds from an image's publication to its mask's arrival; frames, published, rate_hz.

    Raises:
        LiveError, ProcessError: the node failed, or gave no mask.
    """
    bag = folder / "images"
    with BagWriter(bag) as writer:
        for index, image in enumerate(islice(cycle(images), frames)):
            stamp_ns = round((1 + index / rate_hz) * 1e9)
            writer.write_image(IMAGE_TOPIC, image, stamp_ns, FRAME_ID)
    run = run_live(bag, IMAGE_TOPIC, compressed=False, engine=engine, folder=folder, parameters={"runtime": runtime})
    latencies = list(run.latency_by_stamp().values())
    if not latencies:
        raise LiveError(f"the node gave no mask for {frames} images; its log: {folder / NODE_LOG}")
    return {
        **{f"p{percent}": rounded(np.percentile(latencies, percent)) for percent in (50, 95, 99)},
        "frames": frames,
        "published": len(latencies),
        "rate_hz": rate_hz,
    }
