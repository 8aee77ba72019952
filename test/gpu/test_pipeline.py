"""The pipeline on the device: real frames, slots, graphs, cameras. What is right is what the emulated driver gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from copying_network import CopyingNetwork, manifest_of
from emulated_driver import EmulatedDriver

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import image_frame, read_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Runtime
from eseg_ros.runtime.worker import Worker

CAMVID = Path(__file__).parents[3] / "shared" / "datasets" / "camvid"
EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)
PATIENCE = 60.0
"""Seconds after which something that should have happened counts as lost."""

RuntimeLoader = Callable[..., CudaRuntime]


@pytest.fixture
def frames(streets: list[Image8]) -> list[Frame]:
    """Real frames of one size."""
    return [image_frame(street) for street in streets]


@pytest.fixture
def emulated(emulator: EmulatedDriver) -> Iterator[CudaRuntime]:
    """The runtime that says what is right."""
    runtime = CudaRuntime(emulator, CopyingNetwork(manifest_of()), 1, CudaOptions(graphs=False))
    runtime.load(lambda: None)
    yield runtime
    runtime.close()


def run(runtime: Runtime, frame: Frame, outputs: Outputs = EVERYTHING, slot: int = 0) -> Result:
    runtime.submit(slot, frame, outputs)
    return runtime.collect(slot)


def assert_same(result: Result, expected: Result) -> None:
    """All pictures are equal; the confidence within a level, as the exponential may be."""
    for name in ("mask", "color_mask", "overlay"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name), err_msg=name)
    assert (result.confidence is None) == (expected.confidence is None)
    if result.confidence is not None:
        assert np.abs(result.confidence.astype(int) - expected.confidence).max() <= 1


def cropped(frame: Frame, height: int) -> Frame:
    """Another size of the same frame."""
    return replace(frame, height=height)


def test_a_frame_is_what_the_emulated_device_makes_of_it(
    load_runtime: RuntimeLoader, emulated: CudaRuntime, frames: list[Frame]
) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()))
    for frame in frames:
        assert len(np.unique(run(runtime, frame).mask)) > 1
        assert_same(run(runtime, frame), run(emulated, frame))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid frames in ../shared/datasets/camvid")
def test_frames_of_a_real_drive(load_runtime: RuntimeLoader, emulated: CudaRuntime) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()))
    for sample in list_samples(CAMVID, "val", find_layout(CAMVID))[::25]:
        frame = read_frame(sample.image)
        assert_same(run(runtime, frame), run(emulated, frame))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_graph_gives_what_the_plain_way_gives(
    load_runtime: RuntimeLoader, kind: str, frames: list[Frame], dtype: type[np.floating[Any]]
) -> None:
    with_graphs = load_runtime(CopyingNetwork(manifest_of(), dtype=dtype))
    plain = load_runtime(CopyingNetwork(manifest_of(), dtype=dtype), driver=open_driver(kind), graphs=False)
    for frame in frames * 3:
        result, expected = run(with_graphs, frame), run(plain, frame)
        assert_same(result, expected)
        np.testing.assert_array_equal(result.confidence, expected.confidence)
    assert with_graphs.device.endswith("CUDA graphs"), "none was refused"


def test_a_change_of_outputs_or_camera_captures_nothing_that_was_captured_before(
    load_runtime: RuntimeLoader, driver: Driver, monkeypatch: pytest.MonkeyPatch, frames: list[Frame]
) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()), slots=1)
    kinds = [(frame, outputs) for frame in (frames[0], cropped(frames[0], 101)) for outputs in (Outputs(), EVERYTHING)]
    for frame, outputs in kinds * 3:
        run(runtime, frame, outputs)
    captures: list[int] = []
    begin_capture = driver.begin_capture

    def counted(stream: int) -> None:
        captures.append(stream)
        begin_capture(stream)

    monkeypatch.setattr(driver, "begin_capture", counted)
    for frame, outputs in kinds * 2:
        run(runtime, frame, outputs)
    assert captures == []
    run(runtime, cropped(frames[0], 57))
    run(runtime, cropped(frames[0], 57))
    assert len(captures) == 1


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("wait", ["block", "spin"])
def test_results_come_in_order_whatever_is_under_way(
    load_runtime: RuntimeLoader, emulated: CudaRuntime, frames: list[Frame], slots: int, wait: str
) -> None:
    expected = [run(emulated, frame) for frame in frames]
    stamped = [replace(frames[index % len(frames)], stamp_ns=index) for index in range(40)]
    results = list(
        Pipeline(load_runtime(CopyingNetwork(manifest_of()), slots=slots, wait=wait)).map(stamped, EVERYTHING)
    )
    assert [result.stamp_ns for result in results] == list(range(40))
    for index, result in enumerate(results):
        assert_same(result, expected[index % len(frames)])


def test_buffers_grow_while_another_slot_is_under_way(
    load_runtime: RuntimeLoader, emulated: CudaRuntime, streets: list[Image8], frames: list[Frame]
) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()))
    for factor in (1, 2, 3):
        large = image_frame(cv2.resize(streets[1], None, fx=factor, fy=factor))
        runtime.submit(0, frames[0], EVERYTHING)
        assert_same(run(runtime, large, slot=1), run(emulated, large))
        assert_same(runtime.collect(0), run(emulated, frames[0]))


@pytest.mark.parametrize("mapped", ["on", "off"])
def test_mapped_memory_and_copies_give_the_same(
    load_runtime: RuntimeLoader, emulated: CudaRuntime, frames: list[Frame], mapped: str
) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()), mapped=mapped)
    for frame in frames:
        for _ in range(3):
            assert_same(run(runtime, frame), run(emulated, frame))


def test_the_stages_of_a_captured_frame_have_their_times(load_runtime: RuntimeLoader, frames: list[Frame]) -> None:
    runtime = load_runtime(CopyingNetwork(manifest_of()))
    for _ in range(5):
        timings = run(runtime, frames[0]).timings
        stages = (timings.preprocess_ms, timings.inference_ms, timings.postprocess_ms)
        assert all(0 < stage < 1000 for stage in stages), stages


def test_a_worker_loses_no_frame_of_several_cameras(kind: str, emulated: CudaRuntime, streets: list[Image8]) -> None:
    """The worker's thread owns the context, frames come from this one, as in the node."""
    images = {"front": streets[0], "rear": streets[1][:101], "side": streets[2][:, :96]}
    frames = {name: image_frame(np.ascontiguousarray(image)) for name, image in images.items()}
    results: dict[str, list[Result]] = {name: [] for name in frames}
    answered, failures = threading.Semaphore(0), []

    def publish(camera: str, result: Result) -> None:
        results[camera].append(result)
        answered.release()

    worker = Worker(
        CudaRuntime(open_driver(kind), CopyingNetwork(manifest_of()), 2),
        list(frames),
        on_result=publish,
        on_drop=lambda *_: None,
        on_failure=failures.append,
        outputs=lambda _: EVERYTHING,
    )
    worker.start()
    assert worker.wait_loaded(PATIENCE)
    for _ in range(20):
        for name, frame in frames.items():
            worker.offer(name, frame)
        for _ in frames:
            assert answered.acquire(timeout=PATIENCE)
    assert worker.stop(PATIENCE)
    assert failures == []
    for name, frame in frames.items():
        assert worker.counters(name).published == worker.counters(name).received == len(results[name]) == 20
        expected = run(emulated, frame)
        for result in results[name]:
            assert_same(result, expected)


def test_two_runtimes_in_two_threads_do_not_disturb_each_other(
    kind: str, emulated: CudaRuntime, frames: list[Frame]
) -> None:
    expected = [run(emulated, frame) for frame in frames]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Pipeline(CudaRuntime(open_driver(kind), CopyingNetwork(manifest_of()), 2)) as pipeline:
                for index, result in enumerate(pipeline.map(frames * 25, EVERYTHING)):
                    assert isinstance(result, Result)
                    assert_same(result, expected[index % len(frames)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
