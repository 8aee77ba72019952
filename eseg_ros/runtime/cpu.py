"""What the runtimes on the CPU share: everything but the inference library."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import Engine, EngineManifest
from eseg_ros.errors import DeviceError, EngineError, UsageError
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.postprocess import Postprocessor
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.tensors import TensorInfo, expected_tensors, in_words, input_shape, output_shape
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Timings

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Job:
    """A frame under way in a slot. `inference` gives the inference's own milliseconds."""

    frame: Frame
    image: Image8
    outputs: Outputs
    preprocess_ms: float
    inference: Future[float]


class CpuRuntime(ABC):
    """A runtime whose slots are pairs of arrays in memory: decode and preprocess, infer, postprocess.

    Inferences run one after the other in a thread of their own, in the order in which they were submitted. The caller's
    thread prepares the next frame and finishes the last one meanwhile, because inference, OpenCV and NumPy release the
    interpreter's lock. The libraries' own asynchronous requests would need that thread too: their times count the wait
    behind another request, and OpenVINO's callback is not called when an inference fails.

    A library fills in three methods. It reads `inputs[slot]`, (1, 3, H, W), and writes `logits[slot]`, (1, C, h, w),
    where they are. Both have the types that the manifest names; where these are float16, the frame's own preprocessing
    and postprocessing convert from and to float32, and their times count it.

    Args:
        engine: what to run.
        slots: frames that may be under way at once.
        threads: of the inference library; 0 = its own choice.
    """

    name: str
    polled = False

    def __init__(self, engine: Engine, slots: int = 2, threads: int = 0) -> None:
        if slots < 1 or threads < 0:
            raise UsageError(f"slots is {slots} and threads is {threads}; expected slots >= 1 and threads >= 0")
        manifest = engine.manifest
        self.manifest: EngineManifest = manifest
        self.slots = slots
        self.device = "not loaded"
        self.inputs = [np.zeros(input_shape(manifest), manifest.input.dtype) for _ in range(slots)]
        self.logits = [np.zeros(output_shape(manifest), manifest.output.dtype) for _ in range(slots)]
        self._preprocessed = np.zeros(input_shape(manifest), np.float32) if manifest.input.dtype != "float32" else None
        self._engine = engine
        self._threads = threads
        self._preprocess = Preprocessor(manifest.input)
        self._postprocess = Postprocessor(manifest)
        self._jobs: list[_Job | None] = [None] * slots
        self._executor: ThreadPoolExecutor | None = None
        self._notify: Callable[[], None] = lambda: None

    def load(self, notify: Callable[[], None]) -> None:
        """Load the engine and run every slot once, so that the first frame is as fast as the others."""
        self._open(self._engine.onnx, self._threads)
        self._executor = ThreadPoolExecutor(1, f"eseg-{self.name}")
        for slot in range(self.slots):
            self._finish(self._executor.submit(self._timed_run, slot))
        self._notify = notify

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        """Decode, preprocess and start the inference; see `Runtime.submit`."""
        assert self._executor is not None, "the engine is not loaded"
        start_ns = time.perf_counter_ns()
        image = decode(frame)
        self._fill_input(slot, image)
        preprocess_ms = _milliseconds_since(start_ns)
        inference = self._executor.submit(self._timed_run, slot)
        self._jobs[slot] = _Job(frame, image, outputs, preprocess_ms, inference)
        inference.add_done_callback(lambda _: self._notify())

    def ready(self, slot: int) -> bool:
        """Whether the slot's inference has ended."""
        job = self._jobs[slot]
        return job is not None and job.inference.done()

    def collect(self, slot: int) -> Result:
        """Wait for the inference and postprocess; see `Runtime.collect`."""
        job, self._jobs[slot] = self._jobs[slot], None
        assert job is not None, "collect of a slot that nothing was submitted to"
        inference_ms = self._finish(job.inference)
        start_ns = time.perf_counter_ns()
        logits: FloatArray = self.logits[slot][0].astype(np.float32, copy=False)
        mask, color_mask, overlay, confidence = self._postprocess(logits, job.image, job.outputs)
        return Result(
            mask=mask,
            timings=Timings(job.preprocess_ms, inference_ms, _milliseconds_since(start_ns)),
            stamp_ns=job.frame.stamp_ns,
            frame_id=job.frame.frame_id,
            color_mask=color_mask,
            overlay=overlay,
            confidence=confidence,
        )

    def close(self) -> None:
        """Wait for what is under way and free the library's objects."""
        self._notify = lambda: None
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
        self._jobs = [None] * self.slots
        self._close()

    def _fill_input(self, slot: int, image: Image8) -> None:
        """Preprocess into the slot's input, in float32 and then in the engine's type."""
        if self._preprocessed is None:
            self._preprocess(image, self.inputs[slot])
        else:
            self._preprocess(image, self._preprocessed)
            self.inputs[slot][:] = self._preprocessed

    def _timed_run(self, slot: int) -> float:
        """Run the slot's inference; its milliseconds."""
        start_ns = time.perf_counter_ns()
        self._run(slot)
        return _milliseconds_since(start_ns)

    def _finish(self, inference: Future[float]) -> float:
        try:
            return inference.result()
        except Exception as error:  # the libraries' exceptions share no base class
            raise DeviceError(
                f"{self.name} failed while running {self._engine.onnx}: {error}. Load the engine anew; if it fails "
                "again, check the machine's memory"
            ) from error

    def _check_tensors(self, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> None:
        """Hold the model's tensors to the manifest.

        Raises:
            EngineError: number, name, type or shape differ.
        """
        expected_in, expected_out = expected_tensors(self.manifest)
        for kind, found, expected in (("input", inputs, expected_in), ("output", outputs, expected_out)):
            if found != [expected]:
                raise EngineError(
                    f"{self._engine.onnx}: the model's {kind} is {in_words(found)}, but its manifest says "
                    f"{expected}; the two do not belong together. Export the engine again: eseg export"
                )

    @abstractmethod
    def _open(self, onnx: Path, threads: int) -> None:
        """Load the model, check its tensors and set `device`; EngineError where the file does not fit."""

    @abstractmethod
    def _run(self, slot: int) -> None:
        """The slot's inference, from `inputs[slot]` to `logits[slot]`; raises whatever the library raises."""

    @abstractmethod
    def _close(self) -> None:
        """Free the library's objects; harmless before `_open` and twice."""


def _milliseconds_since(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / 1e6
