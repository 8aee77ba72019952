"""What the runtimes on the CPU share: everything but the inference library."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import Engine, EngineManifest
from eseg_ros.errors import EngineError
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.postprocess import Postprocessor
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Timings

FloatArray = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Job:
    """A frame under way in a slot."""

    frame: Frame
    image: Image8
    outputs: Outputs
    preprocess_ms: float


class CpuRuntime(ABC):
    """A runtime whose slots are pairs of arrays in memory: decode and preprocess, infer asynchronously, postprocess.

    A library fills in four methods. It reads `inputs[slot]`, (1, 3, H, W) float32, writes `logits[slot]`, (1, C, h, w)
    float32, and calls `_finished(slot)`, from any thread, when an inference it was asked to start has ended.

    Args:
        engine: what to run.
        slots: frames that may be under way at once.
        threads: of the inference library; 0 = its own choice.
    """

    name: str

    def __init__(self, engine: Engine, slots: int = 2, threads: int = 0) -> None:
        if slots < 1 or threads < 0:
            raise ValueError(f"slots is {slots} and threads is {threads}; expected slots >= 1 and threads >= 0")
        manifest = engine.manifest
        self.manifest: EngineManifest = manifest
        self.slots = slots
        self.device = "not loaded"
        self.inputs = [np.zeros(input_shape(manifest), np.float32) for _ in range(slots)]
        self.logits = [np.zeros(output_shape(manifest), np.float32) for _ in range(slots)]
        self._engine = engine
        self._threads = threads
        self._preprocess = Preprocessor(manifest.input)
        self._postprocess = Postprocessor(manifest)
        self._jobs: list[_Job | None] = [None] * slots
        self._events = [threading.Event() for _ in range(slots)]
        self._notify: Callable[[], None] = lambda: None

    def load(self, notify: Callable[[], None]) -> None:
        """Load the engine and run every slot once, so that the first frame is as fast as the others."""
        self._open(self._engine, self._threads)
        for slot in range(self.slots):
            self._events[slot].clear()
            self._start(slot)
            self._wait(slot)
        self._notify = notify

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        """Decode, preprocess and start the inference; see `Runtime.submit`."""
        start_ns = time.perf_counter_ns()
        image = decode(frame)
        self._preprocess(image, self.inputs[slot])
        self._jobs[slot] = _Job(frame, image, outputs, _milliseconds(time.perf_counter_ns() - start_ns))
        self._events[slot].clear()
        self._start(slot)

    def ready(self, slot: int) -> bool:
        """Whether the slot's inference has ended."""
        return self._events[slot].is_set()

    def collect(self, slot: int) -> Result:
        """Wait for the inference and postprocess; see `Runtime.collect`."""
        job, self._jobs[slot] = self._jobs[slot], None
        assert job is not None, "collect of a slot that nothing was submitted to"
        inference_ms = self._wait(slot)
        start_ns = time.perf_counter_ns()
        mask, color_mask, overlay, confidence = self._postprocess(self.logits[slot][0], job.image, job.outputs)
        postprocess_ms = _milliseconds(time.perf_counter_ns() - start_ns)
        return Result(
            mask=mask,
            timings=Timings(job.preprocess_ms, inference_ms, postprocess_ms),
            stamp_ns=job.frame.stamp_ns,
            frame_id=job.frame.frame_id,
            color_mask=color_mask,
            overlay=overlay,
            confidence=confidence,
        )

    def close(self) -> None:
        """Wait for what is under way and free the library's objects."""
        self._notify = lambda: None
        self._jobs = [None] * self.slots
        self._close()

    def _finished(self, slot: int) -> None:
        """To be called by the library, in any thread, when a slot's inference has ended, well or not."""
        self._events[slot].set()
        self._notify()

    @abstractmethod
    def _open(self, engine: Engine, threads: int) -> None:
        """Load the model and set `device`; EngineError where the file does not fit the manifest."""

    @abstractmethod
    def _start(self, slot: int) -> None:
        """Start the slot's inference and return; DeviceError where it cannot be."""

    @abstractmethod
    def _wait(self, slot: int) -> float:
        """Wait for the slot's inference; its own milliseconds. DeviceError where it failed."""

    @abstractmethod
    def _close(self) -> None:
        """Free everything; harmless before `_open` and twice."""


def input_shape(manifest: EngineManifest) -> tuple[int, int, int, int]:
    """Shape of the input tensor, (1, 3, height, width)."""
    return 1, 3, manifest.input.height, manifest.input.width


def output_shape(manifest: EngineManifest) -> tuple[int, int, int, int]:
    """Shape of the logits, (1, classes, height, width)."""
    return 1, len(manifest.classes), manifest.output.height, manifest.output.width


def check_tensor(
    engine: Engine, kind: str, found: tuple[str, tuple[int, ...]], expected: tuple[str, tuple[int, ...]]
) -> None:
    """Hold a tensor of the model to the manifest.

    Raises:
        EngineError: name or shape differ.
    """
    if found != expected:
        raise EngineError(
            f"{engine.onnx}: its {kind} is {found[0]!r} {found[1]}, by the manifest {expected[0]!r} {expected[1]}; "
            "the two do not belong together. Export the engine again: eseg export"
        )


def check_precision(engine: Engine, runtime: str) -> None:
    """Refuse an engine whose precision the CPU runtimes do not run.

    Raises:
        EngineError: it is not fp32.
    """
    if engine.manifest.precision != "fp32":
        raise EngineError(
            f"{engine.onnx} is an {engine.manifest.precision} engine; {runtime} runs fp32 engines in this version. "
            "Use the fp32 engine it was made from"
        )


def _milliseconds(nanoseconds: int) -> float:
    return nanoseconds / 1e6
