"""One thread runs the engine for all cameras; every frame is accounted for at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError, EngineError, FrameError
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result
from eseg_ros.runtime.worker import STAGES, Counters, Worker

FrameMaker = Callable[..., Frame]
SECOND = 1_000_000_000


class Listener:
    """Keeps what a worker says, and lets a test wait for it."""

    def __init__(self) -> None:
        self.results: list[tuple[str, int]] = []
        self.drops: list[tuple[str, str, int, Exception | None]] = []
        self.failures: list[Exception] = []
        self._changed = threading.Condition()

    def on_result(self, camera: str, result: Result) -> None:
        self._keep(self.results, (camera, result.stamp_ns))

    def on_drop(self, camera: str, reason: str, frame: Frame, error: Exception | None) -> None:
        self._keep(self.drops, (camera, reason, frame.stamp_ns, error))

    def on_failure(self, error: Exception) -> None:
        self._keep(self.failures, error)

    def wait(self, *, results: int = 0, drops: int = 0, failures: int = 0) -> None:
        """Until there are so many of each."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: len(self.results) >= results and len(self.drops) >= drops and len(self.failures) >= failures,
                timeout=5,
            )

    def _keep(self, kept: list[Any], item: object) -> None:
        with self._changed:
            kept.append(item)
            self._changed.notify_all()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def make_worker(listener: Listener, request: pytest.FixtureRequest) -> Callable[..., Worker]:
    """`make_worker(runtime, *cameras, **options)`: loaded; stopped at the test's end."""

    def make(runtime: Any, *cameras: str, **options: Any) -> Worker:
        callbacks = {"on_result": listener.on_result, "on_drop": listener.on_drop, "on_failure": listener.on_failure}
        worker = Worker(runtime, cameras, **{**callbacks, "outputs": lambda camera: Outputs(), **options})
        worker.start()
        request.addfinalizer(lambda: worker.stop(5))
        assert worker.wait_loaded(5)
        return worker

    return make


@pytest.fixture
def frame(make_frame: FrameMaker, painted: Image8) -> Frame:
    return make_frame(painted)


def stamped(frame: Frame, stamp_ns: int) -> Frame:
    return replace(frame, stamp_ns=stamp_ns)


def total(counters: Counters) -> int:
    """Frames whose whereabouts are known."""
    return (
        counters.published
        + counters.dropped_busy
        + counters.dropped_stale
        + counters.rejected
        + counters.failed
        + counters.waiting
        + counters.in_flight
    )


def test_a_frame_comes_back_as_its_cameras_result(
    engine: Engine, make_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(make_runtime(engine), "front", "rear")
    worker.offer("rear", stamped(frame, 42))
    listener.wait(results=1)
    assert listener.results == [("rear", 42)]


def test_the_engine_is_loaded_and_freed_in_the_workers_own_thread(held_runtime, make_worker) -> None:
    worker = make_worker(held_runtime, "front")
    assert held_runtime.loaded_by is not threading.current_thread()
    assert worker.stop(5)
    assert held_runtime.closed_by is held_runtime.loaded_by


def test_the_newest_frame_wins_and_the_older_one_is_counted(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front")
    for stamp in (0, 1):
        worker.offer("front", stamped(frame, stamp))
        held_runtime.wait_submitted(stamp + 1)
    for stamp in (2, 3, 4):  # both slots are taken: these wait, one at a time
        worker.offer("front", stamped(frame, stamp))
    assert worker.counters("front") == Counters(received=5, dropped_busy=2, waiting=1, in_flight=2)
    assert [drop[:3] for drop in listener.drops] == [("front", "dropped_busy", 2), ("front", "dropped_busy", 3)]
    for _ in range(3):
        held_runtime.finish()
    listener.wait(results=3)
    assert [stamp for _, stamp in listener.results] == [0, 1, 4]


def test_a_free_slot_is_filled_while_another_is_under_way(held_runtime, make_worker, frame: Frame) -> None:
    worker = make_worker(held_runtime, "front")
    worker.offer("front", frame)
    held_runtime.wait_submitted(1)
    worker.offer("front", frame)
    held_runtime.wait_submitted(2)


def test_cameras_take_turns(held_runtime, make_worker, listener: Listener, frame: Frame) -> None:
    worker = make_worker(held_runtime, "fast", "slow")
    for count in (1, 2):
        worker.offer("fast", stamped(frame, 0))
        held_runtime.wait_submitted(count)
    worker.offer("slow", stamped(frame, 1))
    for count in range(3, 7):
        worker.offer("fast", stamped(frame, 0))
        held_runtime.finish()
        held_runtime.wait_submitted(count)
    assert 1 in [submitted.stamp_ns for submitted in held_runtime.submitted[2:4]], (
        "the slow camera waits one turn at most"
    )


def test_a_frame_that_cannot_be_used_is_rejected_and_the_stream_goes_on(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front")
    worker.offer("front", replace(frame, encoding="bad"))
    listener.wait(drops=1)
    camera, reason, _, error = listener.drops[0]
    assert (camera, reason) == ("front", "rejected")
    assert isinstance(error, FrameError)
    worker.offer("front", frame)
    held_runtime.finish()
    listener.wait(results=1)
    assert worker.stop(5)
    assert worker.counters("front") == Counters(received=2, rejected=1, published=1)


def test_a_frame_of_too_many_pixels_is_rejected_before_the_runtime_sees_it(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front", max_pixels=frame.width * frame.height - 1)
    worker.offer("front", frame)
    listener.wait(drops=1)
    assert listener.drops[0][:2] == ("front", "rejected")
    assert "megapixels" in str(listener.drops[0][3])


def test_a_frame_that_the_runtime_cannot_decode_is_converted_if_somebody_can(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front", convert=lambda given: replace(given, encoding=frame.encoding))
    worker.offer("front", replace(frame, encoding="bad"))
    held_runtime.finish()
    listener.wait(results=1)


def test_a_frame_older_than_the_limit_is_dropped(held_runtime, make_worker, listener: Listener, frame: Frame) -> None:
    worker = make_worker(held_runtime, "front", max_age_ns=SECOND, now_ns=lambda: 10 * SECOND)
    worker.offer("front", stamped(frame, 9 * SECOND - 1))
    listener.wait(drops=1)
    assert listener.drops == [("front", "dropped_stale", 9 * SECOND - 1, None)]
    worker.offer("front", stamped(frame, 9 * SECOND))
    held_runtime.wait_submitted(1)


def test_the_age_limit_may_change_while_running(held_runtime, make_worker, listener: Listener, frame: Frame) -> None:
    worker = make_worker(held_runtime, "front", now_ns=lambda: 10 * SECOND)
    worker.offer("front", frame)
    held_runtime.wait_submitted(1)
    worker.max_age_ns = SECOND
    worker.offer("front", frame)
    listener.wait(drops=1)


@pytest.mark.parametrize("now_ns", [0, -5 * SECOND], ids=["stamp from the future", "clock jumped back"])
def test_a_clock_behind_the_stamps_stalls_nothing(held_runtime, make_worker, frame: Frame, now_ns: int) -> None:
    worker = make_worker(held_runtime, "front", max_age_ns=1, now_ns=lambda: now_ns)
    worker.offer("front", stamped(frame, 100 * SECOND))
    held_runtime.wait_submitted(1)


def test_outputs_are_asked_for_each_frame(engine: Engine, make_runtime, make_worker, frame: Frame) -> None:
    asked: list[str] = []
    overlays: list[bool] = []
    came = threading.Semaphore(0)

    def outputs(camera: str) -> Outputs:
        asked.append(camera)
        return Outputs(overlay=len(asked) > 1)

    def on_result(camera: str, result: Result) -> None:
        overlays.append(result.overlay is not None)
        came.release()

    worker = make_worker(make_runtime(engine), "front", outputs=outputs, on_result=on_result)
    for _ in range(2):
        worker.offer("front", frame)
        assert came.acquire(timeout=5)
    assert overlays == [False, True]


def test_pause_drops_what_waits_and_what_comes_and_finishes_what_is_under_way(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front")
    for count in (1, 2):
        worker.offer("front", frame)
        held_runtime.wait_submitted(count)
    worker.offer("front", frame)
    worker.pause()
    worker.offer("front", frame)
    assert worker.counters("front") == Counters(received=4, dropped_busy=2, in_flight=2)
    held_runtime.finish()
    held_runtime.finish()
    listener.wait(results=2)
    worker.resume()
    worker.offer("front", frame)
    held_runtime.wait_submitted(3)


def test_a_lost_device_is_told_once_and_the_worker_takes_no_more(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front")
    for count in (1, 2):
        worker.offer("front", frame)
        held_runtime.wait_submitted(count)
    worker.offer("front", frame)
    held_runtime.break_device()
    held_runtime.finish()
    listener.wait(failures=1)
    assert isinstance(listener.failures[0], DeviceError)
    worker.offer("front", frame)
    assert worker.counters("front") == Counters(received=4, failed=3, dropped_busy=1)
    assert worker.stop(5)
    assert len(listener.failures) == 1
    assert held_runtime.closed_by is not None


def test_a_new_worker_mends_a_failed_one(
    held_runtime, engine: Engine, make_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    broken = make_worker(held_runtime, "front")
    held_runtime.break_device()
    broken.offer("front", frame)
    held_runtime.finish()
    listener.wait(failures=1)
    assert broken.stop(5)
    make_worker(make_runtime(engine), "front").offer("front", frame)
    listener.wait(results=1)


def test_a_lost_device_is_noticed_though_it_notifies_nobody_and_no_frame_comes(
    engine: Engine, make_worker, listener: Listener, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = EmulatedDriver()  # which does not move by itself
    worker = make_worker(CudaRuntime(driver, HostNetwork(engine)), "front")
    launch_host = driver.launch_host

    def be_lost(*arguments: Any) -> None:
        launch_host(*arguments)
        driver.lose_device()

    monkeypatch.setattr(driver, "launch_host", be_lost)
    worker.offer("front", frame)
    listener.wait(failures=1)
    assert isinstance(listener.failures[0], DeviceError)
    assert worker.stop(5)
    assert worker.counters("front") == Counters(received=1, failed=1)


def test_a_runtime_that_notifies_nobody_is_polled(
    engine: Engine, make_worker, listener: Listener, frame: Frame
) -> None:
    driver = EmulatedDriver()  # which only moves when it is asked
    worker = make_worker(CudaRuntime(driver, HostNetwork(engine), options=CudaOptions(wait="spin")), "front")
    for count in range(1, 4):
        worker.offer("front", frame)
        listener.wait(results=count)
    assert worker.stop(5)
    assert "launch_host" not in [call.name for call in driver.calls]
    assert driver.misuses == []


def test_a_callback_that_raises_is_a_failure_and_not_silence(
    engine: Engine, make_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    def on_result(camera: str, result: Result) -> None:
        raise ZeroDivisionError("in the callback")

    worker = make_worker(make_runtime(engine), "front", on_result=on_result)
    worker.offer("front", frame)
    listener.wait(failures=1)
    assert isinstance(listener.failures[0], ZeroDivisionError)
    assert worker.counters("front") == Counters(received=1, failed=1)


def test_what_loading_raises_comes_out_of_wait_loaded(engine: Engine, listener: Listener) -> None:
    manifest = replace(engine.manifest, input=replace(engine.manifest.input, name="picture"))
    worker = Worker(
        create_runtime(replace(engine, manifest=manifest)),
        ["front"],
        on_result=listener.on_result,
        on_drop=listener.on_drop,
        on_failure=listener.on_failure,
        outputs=lambda camera: Outputs(),
    )
    worker.start()
    with pytest.raises(EngineError, match="picture"):
        worker.wait_loaded(5)
    assert worker.stop(5)
    assert not listener.failures


def test_stop_accounts_for_every_frame_and_may_come_twice(
    held_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(held_runtime, "front")
    for count in (1, 2):
        worker.offer("front", frame)
        held_runtime.wait_submitted(count)
    worker.offer("front", frame)
    assert worker.stop(5)
    assert worker.stop(5)
    assert worker.counters("front") == Counters(received=3, failed=3)


def test_stages_have_percentiles_once_there_are_results(
    engine: Engine, make_runtime, make_worker, listener: Listener, frame: Frame
) -> None:
    worker = make_worker(make_runtime(engine), "front", "rear")
    assert worker.stages_ms("front") == {}
    for count in range(1, 6):
        worker.offer("front", frame)
        listener.wait(results=count)
    assert worker.stop(5)
    assert worker.counters("front") == Counters(received=5, published=5)
    stages = worker.stages_ms("front")
    assert tuple(stages) == STAGES
    for percentiles in stages.values():
        assert 0 < percentiles["p50"] <= percentiles["p95"] <= percentiles["p99"]
    assert stages["total"]["p50"] > stages["inference"]["p50"]
    assert worker.stages_ms("rear") == {}


def test_under_load_every_snapshot_adds_up(engine: Engine, make_runtime, make_worker, frame: Frame) -> None:
    cameras = ("front", "left", "right")
    worker = make_worker(make_runtime(engine), *cameras, max_age_ns=SECOND, now_ns=lambda: 2 * SECOND)
    kinds = [stamped(frame, 2 * SECOND), replace(frame, encoding="mono16", stamp_ns=2 * SECOND), stamped(frame, 0)]

    def drive(camera: str) -> None:
        for count in range(300):
            worker.offer(camera, kinds[count % 3])
            if count % 100 == 50:
                worker.pause()
                worker.resume()

    drivers = [threading.Thread(target=drive, args=(camera,)) for camera in cameras]
    for driver in drivers:
        driver.start()
    while any(driver.is_alive() for driver in drivers):
        for camera in cameras:
            counters = worker.counters(camera)
            assert counters.received == total(counters)
    assert worker.stop(5)
    for camera in cameras:
        counters = worker.counters(camera)
        assert counters.received == total(counters) == 300
        assert counters.waiting == counters.in_flight == 0
