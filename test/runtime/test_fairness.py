"""Cameras take turns: how fast one is does not matter to the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from eseg_ros.runtime.types import Frame, Image8, Outputs
from eseg_ros.runtime.worker import Counters, Worker

if TYPE_CHECKING:
    from conftest import HeldRuntime

TICKS_PER_SECOND = 60


class Drive:
    """Cameras and an engine at given rates, in ticks of 1/60 s that pass as fast as the worker follows.

    Args:
        rates_hz: of each camera; the engine finishes `engine_hz` frames a second.
    """

    def __init__(self, worker: Worker, runtime: HeldRuntime, frame: Frame, **rates_hz: int) -> None:
        self._worker, self._runtime, self._frame = worker, runtime, frame
        self._rates_hz = rates_hz

    def run(self, seconds: int, engine_hz: int) -> dict[str, Counters]:
        for tick in range(seconds * TICKS_PER_SECOND):
            for camera, rate_hz in self._rates_hz.items():
                if tick % (TICKS_PER_SECOND // rate_hz) == 0:
                    self._worker.offer(camera, replace(self._frame, frame_id=camera))
            self._settle()
            if tick % (TICKS_PER_SECOND // engine_hz) == 0:
                self._runtime.finish()
                self._settle()
        return {camera: self._worker.counters(camera) for camera in self._rates_hz}

    def _settle(self) -> None:
        """Wait until the worker has nothing to do but wait for the engine."""
        in_flight = sum(self._worker.counters(camera).in_flight for camera in self._rates_hz)
        waiting = sum(self._worker.counters(camera).waiting for camera in self._rates_hz)
        published = sum(self._worker.counters(camera).published for camera in self._rates_hz)
        self._runtime.wait_submitted(published + min(self._runtime.slots, in_flight + waiting))


@pytest.fixture
def drive(
    held_runtime: HeldRuntime,
    make_frame: Callable[..., Frame],
    painted: Image8,
    request: pytest.FixtureRequest,
) -> Callable[..., Drive]:
    """`drive(front=60, side=10)`."""

    def make(**rates_hz: int) -> Drive:
        worker = Worker(
            held_runtime,
            tuple(rates_hz),
            on_result=lambda camera, result: None,
            on_drop=lambda camera, reason, frame, error: None,
            on_failure=lambda error: None,
            outputs=lambda camera: Outputs(),
        )
        worker.start()
        request.addfinalizer(lambda: worker.stop(5))
        return Drive(worker, held_runtime, make_frame(painted), **rates_hz)

    return make


def test_a_60_hz_camera_does_not_starve_a_10_hz_one(drive: Callable[..., Drive]) -> None:
    counters = drive(fast=60, slow=10).run(seconds=3, engine_hz=20)

    assert counters["slow"].dropped_busy == 0
    assert counters["fast"].published >= 28
