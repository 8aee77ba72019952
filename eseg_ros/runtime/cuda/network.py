"""An engine on the device, as the pipeline sees it: TensorRT in a vehicle, a function of the host in the tests."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver


class DeviceNetwork(Protocol):
    """From an input tensor at one device address to logits at another.

    All frames of all slots run one after the other on one compute stream. So there is one pair of tensors and, in
    TensorRT, one execution context for all of them: the addresses are bound once, and the scratch memory exists once.

    The calls come in this order, all in the thread that owns the CUDA context: `load`, `bind`, then `enqueue` as often
    as there are frames and captures, `close`. The dtypes and the description are asked for only after `load`.
    """

    @property
    def name(self) -> str:
        """The runtime's name, e.g. "tensorrt"."""

    @property
    def description(self) -> str:
        """Library, version and precision in words, for diagnostics, e.g. "TensorRT 10.3.0, fp16"."""

    @property
    def manifest(self) -> EngineManifest:
        """The engine. Its tensors are (1, 3, H, W) and (1, classes, h, w), contiguous; `load` has checked them."""

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """float32 or float16."""

    @property
    def output_dtype(self) -> np.dtype[np.floating]:
        """float32 or float16."""

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        """Load the engine into the driver's current context; blocks. What it allocates is its own until `close`.

        Raises:
            EngineError: the engine's files do not fit, or were built for another machine.
            DeviceError: the device refused.
        """

    def bind(self, input_address: int, output_address: int) -> None:
        """Use these tensors from now on. Called once, after `load`; both live as long as anything is under way.

        Raises:
            DeviceError: an address was refused.
        """

    def enqueue(self, stream: int) -> None:
        """Enqueue one inference. Called while the stream is captured as well, then nothing runs yet.

        Raises:
            DeviceError: the library refused; in a capture it may be that the engine cannot be captured.
        """

    def close(self) -> None:
        """Free the engine. Nothing of it is under way any more. May be called twice, and without `load`."""
