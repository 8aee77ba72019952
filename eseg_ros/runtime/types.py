"""The types at the seams: what goes into a runtime, what is asked of it and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.labels import Relabeling

Image8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image, still in the bytes of the message that brought it.

    Attributes:
        data: uint8 view; at least `step * rows` bytes for a raw image, the whole file for a compressed one. Never
            copied before the engine's input.
        encoding: a sensor_msgs image encoding, e.g. "bgr8" or "nv12"; "jpeg" or "png" for a compressed image.
        width: pixels; 0 for a compressed image, whose size is known only once it is decoded.
        height: pixels; 0 for a compressed image.
        step: bytes from one row to the next; 0 for a compressed image.
        stamp_ns: acquisition time, nanoseconds on the camera's clock.
        frame_id: the optical frame that the image was taken in.
        is_bigendian: byte order of encodings with more than 8 bits a channel.
    """

    data: memoryview
    encoding: str
    width: int
    height: int
    step: int
    stamp_ns: int
    frame_id: str = ""
    is_bigendian: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a frame's result must hold besides the mask; what nobody listens to is not computed.

    Attributes:
        color_mask: the mask in the palette's colours.
        overlay: the camera image blended with the color mask.
        confidence: softmax probability of the winning class.
        overlay_alpha: weight of the color mask in the overlay, 0 to 1.
        confidence_threshold: pixels whose confidence lies below become 255 in the mask, 0 (off) to 1.
        scale: size of the mask and of all pictures as a share of the camera image's, see `geometry.scaled_size`.
        relabeling: classes merged or dropped after the argmax; None keeps the engine's.
    """

    color_mask: bool = False
    overlay: bool = False
    confidence: bool = False
    overlay_alpha: float = 0.5
    confidence_threshold: float = 0.0
    scale: float = 1.0
    relabeling: Relabeling | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a frame's time went, milliseconds on a steady clock.

    `wait_ms` is the time in the mailbox, filled in by the worker; `inference_ms` is the engine alone, without waiting
    behind another slot's frame.
    """

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    wait_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one frame.

    Attributes:
        mask: (H, W) uint8 class ids at the camera's resolution times `Outputs.scale`; 255 = below the confidence
            threshold, or of no class.
        color_mask: (H, W, 3) uint8 BGR, if asked for.
        overlay: (H, W, 3) uint8 BGR, if asked for.
        confidence: (H, W) uint8, 255 = certain, if asked for.
        timings: milliseconds a stage.
        stamp_ns: the frame's.
        frame_id: the frame's.
    """

    mask: Image8
    timings: Timings
    stamp_ns: int
    frame_id: str
    color_mask: Image8 | None = None
    overlay: Image8 | None = None
    confidence: Image8 | None = None


class Runtime(Protocol):
    """A loaded engine with `slots` independent sets of buffers.

    One thread, the pipeline's, makes every call. `submit` starts a slot's work and returns without waiting for the
    inference, so that the preparation of one frame overlaps the inference of another; `collect` finishes it. On a GPU
    `submit` enqueues copy-in, compute and copy-out on the slot's streams and `collect` waits for its last event.
    """

    @property
    def name(self) -> str:
        """ "openvino", "onnxruntime" or "tensorrt"."""

    @property
    def device(self) -> str:
        """The device in words, for diagnostics, e.g. "CPU (AMD EPYC), 2 threads"."""

    @property
    def manifest(self) -> EngineManifest:
        """The engine that this runtime runs."""

    @property
    def slots(self) -> int:
        """How many frames can be under way at once."""

    @property
    def polled(self) -> bool:
        """Whether `ready` must be asked again and again while a frame is under way, because `notify` is not called."""

    def load(self, notify: Callable[[], None]) -> None:
        """Load and warm up the engine; blocks. `notify` will be called, from any thread, when a slot becomes ready.

        Raises:
            EngineError: the engine's files do not fit.
            DeviceError: the device refused.
        """

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        """Decode and preprocess `frame` into the slot's input and start its inference. The slot must be free.

        Raises:
            FrameError: the frame cannot be used; the slot stays free.
            DeviceError: the inference could not be started.
        """

    def ready(self, slot: int) -> bool:
        """Whether `collect` would return without waiting for the inference.

        Raises:
            DeviceError: the device is lost.
        """

    def collect(self, slot: int) -> Result:
        """Wait for the slot's inference, postprocess, and free the slot.

        Raises:
            DeviceError: the inference failed.
        """

    def close(self) -> None:
        """Free everything. May be called twice; waits for what is under way."""
