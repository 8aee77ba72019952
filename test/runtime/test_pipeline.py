"""Frames go through the slots in order, overlapped; each gives its result or its error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError, FrameError
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result

FrameMaker = Callable[..., Frame]


@pytest.fixture
def frame(make_frame: FrameMaker, painted: Image8) -> Frame:
    return make_frame(painted)


def test_results_come_in_the_order_of_the_frames(held_runtime, frame: Frame) -> None:
    pipeline = Pipeline(held_runtime)
    pipeline.load()
    stamps = []
    for stamp in range(5):
        if not pipeline.can_submit:
            held_runtime.finish()
            stamps.append(pipeline.collect().stamp_ns)
        pipeline.submit(replace(frame, stamp_ns=stamp), Outputs())
    while pipeline.in_flight:
        held_runtime.finish()
        stamps.append(pipeline.collect().stamp_ns)
    assert stamps == [0, 1, 2, 3, 4]


def test_all_slots_are_under_way_at_once(held_runtime, frame: Frame) -> None:
    pipeline = Pipeline(held_runtime)
    pipeline.load()
    pipeline.submit(frame, Outputs())
    assert (pipeline.in_flight, pipeline.can_submit) == (1, True)
    pipeline.submit(frame, Outputs())
    assert (pipeline.in_flight, pipeline.can_submit) == (2, False)


def test_ready_tells_of_the_oldest_frame(held_runtime, frame: Frame) -> None:
    pipeline = Pipeline(held_runtime)
    pipeline.load()
    assert not pipeline.ready
    pipeline.submit(frame, Outputs())
    assert not pipeline.ready
    held_runtime.finish()
    assert pipeline.ready


def test_a_refused_frame_takes_no_slot(held_runtime, frame: Frame) -> None:
    pipeline = Pipeline(held_runtime)
    pipeline.load()
    for _ in range(5):
        with pytest.raises(FrameError):
            pipeline.submit(replace(frame, encoding="bad"), Outputs())
    assert (pipeline.in_flight, pipeline.can_submit) == (0, True)


def test_a_failed_frame_frees_its_slot(held_runtime, frame: Frame) -> None:
    pipeline = Pipeline(held_runtime)
    pipeline.load()
    pipeline.submit(frame, Outputs())
    held_runtime.break_device()
    held_runtime.finish()
    with pytest.raises(DeviceError):
        pipeline.collect()
    assert pipeline.in_flight == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_map_gives_every_frame_its_result_or_its_error_in_order(
    make_runtime, engine: Engine, make_frame: FrameMaker, painted: Image8, slots: int, count: int
) -> None:
    frames = [make_frame(np.roll(painted, 8 * stamp, axis=1), stamp) for stamp in range(count)]
    frames = [replace(frame, encoding="mono16") if frame.stamp_ns % 3 == 1 else frame for frame in frames]
    with Pipeline(make_runtime(engine, slots=slots)) as pipeline:
        outcomes = list(pipeline.map(frames))
    assert len(outcomes) == count
    for stamp, outcome in enumerate(outcomes):
        if stamp % 3 == 1:
            assert isinstance(outcome, FrameError)
        else:
            assert isinstance(outcome, Result)
            assert outcome.stamp_ns == stamp


def test_map_gives_what_one_frame_at_a_time_gives(make_runtime, engine: Engine, make_frame: FrameMaker) -> None:
    rng = np.random.default_rng(0)
    frames = [make_frame(rng.integers(0, 256, (50 + n, 70, 3), dtype=np.uint8)) for n in range(6)]
    outputs = Outputs(overlay=True, confidence=True)
    with Pipeline(make_runtime(engine, slots=3)) as pipeline:
        together = list(pipeline.map(frames, outputs))
        for frame, result in zip(frames, together, strict=True):
            pipeline.submit(frame, outputs)
            alone = pipeline.collect()
            assert isinstance(result, Result)
            for name in ("mask", "overlay", "confidence"):
                np.testing.assert_array_equal(getattr(result, name), getattr(alone, name))


def test_map_takes_frames_as_they_come(held_runtime, frame: Frame) -> None:
    taken = []

    def source():
        for stamp in range(4):
            taken.append(stamp)
            yield replace(frame, stamp_ns=stamp)

    pipeline = Pipeline(held_runtime)
    pipeline.load()
    results = pipeline.map(source())
    finisher = threading.Thread(target=held_runtime.finish)
    finisher.start()
    assert isinstance(next(results), Result)
    finisher.join()
    assert taken == [0, 1, 2], "one frame more than there are slots, not the whole source"
