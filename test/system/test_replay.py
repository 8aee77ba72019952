"""The whole way: a bag over DDS into the node in its own process, and its masks back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eseg_ros.bag.create import IMAGE_TOPIC, render_bag
from eseg_ros.bag.reader import BagReader, mono8_pixels
from eseg_ros.engine.manifest import load_engine
from eseg_ros.evaluation.live import LiveRun, run_live
from eseg_ros.evaluation.processes import MASK_TOPIC
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Result

FRAMES = 12


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered drive of 12 frames."""
    path = tmp_path_factory.mktemp("system") / "drive"
    render_bag(path, seed=5, frames=FRAMES, rate_hz=10, width=320, height=240)
    return path


@pytest.fixture(scope="module")
def run(drive: Path, tiny_engine: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    """The drive, replayed reliably. That the node ends with status 0 on SIGTERM is part of `run_live`."""
    qos = {IMAGE_TOPIC: {"subscription": {"reliability": "reliable", "depth": FRAMES}}}
    return run_live(
        drive,
        IMAGE_TOPIC,
        compressed=False,
        engine=tiny_engine,
        folder=tmp_path_factory.mktemp("live"),
        parameters={"qos_overrides": qos, "threads": 1},
    )


def offline(frames: list[Frame], engine: Path) -> list[Result]:
    with Pipeline(create_runtime(load_engine(engine), threads=1)) as pipeline:
        return [result for result in pipeline.map(iter(frames), Outputs()) if isinstance(result, Result)]


def test_every_image_is_answered_with_its_own_stamp(drive: Path, run: LiveRun) -> None:
    with BagReader(drive) as bag:
        stamps = [frame.stamp_ns for frame in bag.frames(IMAGE_TOPIC)]

    assert [stamp_ns for stamp_ns, _ in run.published] == stamps
    assert [stamp_ns for stamp_ns, _ in run.received] == stamps


def test_masks_are_those_of_the_pipeline_offline_pixel_by_pixel(drive: Path, run: LiveRun, tiny_engine: Path) -> None:
    with BagReader(drive) as bag, BagReader(run.masks) as masks:
        expected = offline(list(bag.frames(IMAGE_TOPIC)), tiny_engine)
        answers = list(masks.frames(MASK_TOPIC))

    assert len(answers) == len(expected) == FRAMES
    for answer, result in zip(answers, expected, strict=True):
        assert (answer.stamp_ns, answer.frame_id) == (result.stamp_ns, result.frame_id)
        np.testing.assert_array_equal(mono8_pixels(answer), result.mask)
    assert len(np.unique(np.concatenate([result.mask for result in expected]))) > 1


def test_the_node_counts_every_frame(run: LiveRun) -> None:
    counters = {key: int(run.camera_values[key]) for key in ("received", "published", "dropped_busy", "rejected")}

    assert counters == {"received": FRAMES, "published": FRAMES, "dropped_busy": 0, "rejected": 0}


def test_no_mask_arrives_before_its_image_was_published(run: LiveRun) -> None:
    assert len(run.latency_by_stamp()) == FRAMES
    assert min(run.latency_by_stamp().values()) > 0
