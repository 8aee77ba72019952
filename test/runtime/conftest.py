"""Frames, and a runtime whose inferences the test ends when it wants to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.engine.manifest import Engine, EngineManifest, load_engine
from eseg_ros.errors import DeviceError, FrameError
from eseg_ros.labels import CAMVID
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Runtime, Timings

FrameMaker = Callable[..., Frame]
RuntimeMaker = Callable[..., Runtime]


@pytest.fixture
def engine(tiny_engine: Path) -> Engine:
    """The tiny engine, loaded."""
    return load_engine(tiny_engine)


@pytest.fixture
def labels() -> Image8:
    """(64, 96) class ids in blocks of 8x8, one for each cell of the tiny engine's logits."""
    cells = np.random.default_rng(7).integers(0, len(CAMVID), (8, 12), dtype=np.uint8)
    return cells.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def painted(labels: Image8) -> Image8:
    """(64, 96, 3) BGR: `labels` in CamVid's colours, which the tiny engine knows again."""
    return np.ascontiguousarray(CAMVID.color_table()[labels][..., ::-1])


def bgr_frame(image: Image8, stamp_ns: int = 0, frame_id: str = "camera") -> Frame:
    """A contiguous BGR image as a frame."""
    height, width = image.shape[:2]
    data = memoryview(np.ascontiguousarray(image)).cast("B")
    return Frame(data, "bgr8", width, height, 3 * width, stamp_ns, frame_id)


@pytest.fixture
def make_frame() -> FrameMaker:
    """`make_frame(image, stamp_ns, frame_id)`."""
    return bgr_frame


@pytest.fixture(params=["cpu", "cuda"])
def make_runtime(request: pytest.FixtureRequest) -> Iterator[RuntimeMaker]:
    """`make_runtime(engine, slots=2)`: not loaded yet; on the CPU, and on an emulated GPU that works by itself."""
    drivers: list[EmulatedDriver] = []

    def make(engine: Engine, slots: int = 2) -> Runtime:
        if request.param == "cpu":
            return create_runtime(engine, slots=slots)
        drivers.append(EmulatedDriver(free_running=True))
        return CudaRuntime(drivers[-1], HostNetwork(engine), slots)

    yield make
    assert [misuse for driver in drivers for misuse in driver.misuses] == []


class HeldRuntime:
    """A runtime without an engine: an inference ends when the test says `finish()`, in the order of submission.

    A frame whose encoding is "bad" is refused; `break_device()` lets every further inference fail.
    """

    name = "held"
    polled = False
    device = "the test"

    def __init__(self, manifest: EngineManifest, slots: int = 2) -> None:
        self.manifest = manifest
        self.slots = slots
        self.submitted: list[Frame] = []
        self.closed_by: threading.Thread | None = None
        self.loaded_by: threading.Thread | None = None
        self._frames: dict[int, Frame] = {}
        self._order: list[int] = []
        self._done: set[int] = set()
        self._changed = threading.Condition()
        self._broken = False

    def load(self, notify: Callable[[], None]) -> None:
        self.loaded_by = threading.current_thread()
        self._notify = notify

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        assert slot not in self._frames, "the slot is not free"
        if frame.encoding == "bad":
            raise FrameError("a bad frame")
        with self._changed:
            self._frames[slot] = frame
            self._order.append(slot)
            self.submitted.append(frame)
            self._changed.notify_all()

    def ready(self, slot: int) -> bool:
        return slot in self._done

    def collect(self, slot: int) -> Result:
        with self._changed:
            assert self._changed.wait_for(lambda: slot in self._done, timeout=5)
            self._done.remove(slot)
            frame = self._frames.pop(slot)
        if self._broken:
            raise DeviceError("the device is lost")
        return Result(np.zeros((1, 1), np.uint8), Timings(1.0, 2.0, 3.0), frame.stamp_ns, frame.frame_id)

    def close(self) -> None:
        self.closed_by = threading.current_thread()

    def wait_submitted(self, count: int) -> None:
        """Wait until `count` frames have come so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.submitted) >= count, timeout=5)

    def finish(self) -> None:
        """End the oldest inference that is under way."""
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self._order), timeout=5)
            self._done.add(self._order.pop(0))
            self._changed.notify_all()
        self._notify()

    def break_device(self) -> None:
        self._broken = True


@pytest.fixture
def held_runtime(engine: Engine) -> HeldRuntime:
    """A runtime with two slots whose inferences the test ends."""
    return HeldRuntime(engine.manifest)
