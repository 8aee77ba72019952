"""Ages are measured on the node's clock, simulated or not; nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from eseg_ros.node import segmentation_node
from eseg_ros.node.segmentation_node import SegmentationNode
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Runtime

if TYPE_CHECKING:
    from conftest import Rig

SECOND = 1_000_000_000
PICTURE = np.zeros((64, 96, 3), np.uint8)


class Replay:
    """A node on simulated time with max_age_ms 100, its camera, and /clock in the test's hand."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.node: SegmentationNode = rig.start(use_sim_time=True, max_age_ms=100.0)
        self.masks: list[Image] = rig.ros.listen(Image, "/segmentation/front/mask")
        self._clock = rig.ros.publisher(Clock, "/clock")
        self._camera = rig.camera()

    def time_is(self, seconds: float) -> None:
        """Set the clock, and wait until the node goes by it."""
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(round(seconds * SECOND), SECOND)

        def is_set() -> bool:
            self._clock.publish(clock)
            return self.node.get_clock().now().nanoseconds == round(seconds * SECOND)

        self.rig.ros.until(is_set)

    def publish(self, seconds: float) -> None:
        """One image with this stamp."""
        self._camera.publish(self.rig.ros.image(PICTURE, stamp=divmod(round(seconds * SECOND), SECOND)))

    def count(self, counter: str) -> int:
        return int(self.rig.value("camera front", counter) or 0)

    def is_answered(self, seconds: float) -> None:
        """Publish one image, and wait for its mask."""
        self.masks.clear()
        self.publish(seconds)
        self.rig.ros.until(lambda: self.masks)

    def is_dropped(self, seconds: float, counter: str = "dropped_stale") -> None:
        """Publish one image, and wait until it is counted."""
        before = self.count(counter)
        self.publish(seconds)
        self.rig.ros.until(lambda: self.count(counter) == before + 1)


def test_max_age_goes_by_simulated_time(rig: Rig) -> None:
    replay = Replay(rig)
    replay.time_is(100.0)

    replay.is_answered(99.95)
    replay.is_dropped(99.5)


def test_a_bag_that_begins_anew_is_answered_at_once(rig: Rig) -> None:
    replay = Replay(rig)
    for _ in range(3):
        for seconds in (10.0, 10.5, 100.0):
            replay.time_is(seconds)
            replay.is_answered(seconds)


def test_images_from_before_the_jump_are_not_taken_for_new_ones(rig: Rig) -> None:
    replay = Replay(rig)
    replay.time_is(100.0)
    replay.is_answered(100.0)

    replay.time_is(10.0)

    replay.is_dropped(100.02)
    replay.is_answered(10.0)


def test_images_may_be_a_little_ahead_of_a_clock_that_comes_in_steps(rig: Rig) -> None:
    replay = Replay(rig)
    replay.time_is(100.0)

    replay.is_answered(100.9)


def test_images_are_taken_before_simulated_time_begins(rig: Rig) -> None:
    Replay(rig).is_answered(100.0)


def test_a_missing_clock_is_told(rig: Rig) -> None:
    rig.start(use_sim_time=True)

    rig.until_engine_says("use_sim_time is set, but nobody publishes /clock")


def test_ages_are_those_since_the_jump(rig: Rig) -> None:
    replay = Replay(rig)
    replay.time_is(100.0)
    replay.is_answered(99.92)
    rig.ros.until(lambda: rig.value("camera front", "age p50 (ms)") == "80.00")

    replay.time_is(10.0)
    rig.ros.until(lambda: rig.value("camera front", "age p50 (ms)") is None)
    replay.is_answered(9.99)

    rig.ros.until(lambda: rig.value("camera front", "age p50 (ms)") == "10.00")


def test_diagnostics_go_on_while_simulated_time_stands_still(rig: Rig) -> None:
    replay = Replay(rig)
    replay.time_is(100.0)

    for _ in range(3):
        replay.rig.forget_reports()
        rig.until_engine_says("active")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """(begun, go_on): the first frame of an engine sets the one and waits for the other."""
    begun, go_on = threading.Event(), threading.Event()

    class Held:
        def __init__(self, runtime: Runtime) -> None:
            self._runtime = runtime

        def __getattr__(self, name: str) -> Any:
            return getattr(self._runtime, name)

        def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
            begun.set()
            go_on.wait()
            self._runtime.submit(slot, frame, outputs)

    monkeypatch.setattr(segmentation_node, "create_runtime", lambda *options: Held(create_runtime(*options)))
    yield begun, go_on
    go_on.set()


def test_an_image_that_waits_while_the_clock_jumps_back_is_dropped(
    rig: Rig, held: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = held
    replay = Replay(rig)
    replay.time_is(100.0)
    replay.publish(100.0)
    rig.ros.until(begun.is_set)
    replay.publish(100.01)
    rig.ros.until(lambda: replay.count("waiting") == 1)

    replay.time_is(10.0)
    rig.ros.until(lambda: replay.count("dropped_busy") == 1)
    go_on.set()

    replay.is_answered(10.0)
