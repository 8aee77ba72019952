"""Cameras take turns: how fast one is does not matter to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from eseg_ros.runtime.types import Frame, Image8, Outputs
from eseg_ros.runtime.worker import Counters, Worker

if TYPE_CHECKING:
    from conftest import HeldRuntime

TICKS_PER_SECOND = 60


class Drive:
    """Cameras and an engine at given rates, in ticks of 1/60 s that pass as fast as the worker follows."""

    def __init__(self, runtime: HeldRuntime, frame: Frame, **rates_hz: int) -> None:
        self._runtime, self._frame, self._rates_hz = runtime, frame, rates_hz
        self._published = threading.Semaphore(0)
        self._finished = 0
        self.worker = Worker(
            runtime,
            tuple(rates_hz),
            on_result=lambda camera, result: self._published.release(),
            on_drop=lambda camera, reason, frame, error: None,
            on_failure=lambda error: None,
            outputs=lambda camera: Outputs(),
        )
        self.worker.start()

    def run(self, seconds: int, engine_hz: int) -> dict[str, Counters]:
        """What became of the frames while the engine finished `engine_hz` frames a second."""
        for tick in range(seconds * TICKS_PER_SECOND):
            for camera, rate_hz in self._rates_hz.items():
                if tick % (TICKS_PER_SECOND // rate_hz) == 0:
                    self.worker.offer(camera, self._frame)
            self._settle()
            if tick % (TICKS_PER_SECOND // engine_hz) == 0:
                self._runtime.finish()
                assert self._published.acquire(timeout=5)
                self._finished += 1
                self._settle()
        return {camera: self.worker.counters(camera) for camera in self._rates_hz}

    def _settle(self) -> None:
        """Wait until the worker has nothing to do but wait for the engine."""
        counters = [self.worker.counters(camera) for camera in self._rates_hz]
        left = sum(count.received - count.dropped_busy for count in counters) - self._finished
        self._runtime.wait_submitted(self._finished + min(self._runtime.slots, left))


@pytest.fixture
def drive(
    held_runtime: HeldRuntime, make_frame: Callable[..., Frame], painted: Image8, request: pytest.FixtureRequest
) -> Callable[..., Drive]:
    """`drive(front=60, side=10)`."""

    def make(**rates_hz: int) -> Drive:
        made = Drive(held_runtime, make_frame(painted), **rates_hz)
        request.addfinalizer(lambda: made.worker.stop(5))
        return made

    return make


def test_a_60_hz_camera_does_not_starve_a_10_hz_one(drive: Callable[..., Drive]) -> None:
    counters = drive(fast=60, slow=10).run(seconds=3, engine_hz=20)

    assert counters["slow"].dropped_busy == 0
    assert counters["fast"].published >= 28


def test_cameras_that_want_more_than_there_is_get_the_same(drive: Callable[..., Drive]) -> None:
    counters = drive(fast=60, medium=30, slow=20).run(seconds=3, engine_hz=15)

    assert {camera: round(count.published / 3) for camera, count in counters.items()} == {
        "fast": 5,
        "medium": 5,
        "slow": 5,
    }
