"""An engine for the emulated driver: ONNX Runtime on the host, enqueued as if it were TensorRT."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from emulated_driver import EmulatedDriver

from eseg_ros.engine.manifest import Engine, EngineManifest
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.tensors import input_shape, output_shape

Floats = npt.NDArray[np.float32]


class HostNetwork:
    """A `DeviceNetwork` whose answers are ONNX Runtime's.

    Args:
        engine: what to run; its tensors are float32.
        dtype: of the tensors on the device, float32 or float16.
        capturable: whether a CUDA graph can hold it.

    Attributes:
        bound: every pair of addresses that `bind` was called with.
        enqueued: calls of `enqueue`.
    """

    name = "emulated"
    description = "ONNX Runtime on the host"

    def __init__(self, engine: Engine, *, dtype: type[np.floating[Any]] = np.float32, capturable: bool = True) -> None:
        self.manifest: EngineManifest = engine.manifest
        self.input_dtype = self.output_dtype = np.dtype(dtype)
        self.bound: list[tuple[int, int]] = []
        self.enqueued = 0
        self._onnx = engine.onnx
        self._capturable = capturable
        self._driver: EmulatedDriver | None = None

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        import onnxruntime

        assert isinstance(driver, EmulatedDriver)
        self._driver = driver
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._onnx, options)

    def bind(self, input_address: int, output_address: int) -> None:
        self.bound.append((input_address, output_address))

    def enqueue(self, stream: int) -> None:
        assert self._driver is not None, "the network is not loaded, or closed"
        self.enqueued += 1
        (source, target), (read, written) = self.bound[-1], self._sizes
        self._driver.enqueue(
            stream,
            self.run,
            reads=[(source, source + read)],
            writes=[(target, target + written)],
            capturable=self._capturable,
        )

    def run(self) -> None:
        """The inference, when its turn has come."""
        assert self._driver is not None
        (source, target), (read, written) = self.bound[-1], self._sizes
        tensor = self._driver.view(source, read).view(self.input_dtype).reshape(input_shape(self.manifest))
        self._driver.view(target, written).view(self.output_dtype)[:] = self.infer(tensor.astype(np.float32)).ravel()

    def infer(self, tensor: Floats) -> Floats:
        """The logits (1, classes, h, w) of an input (1, 3, H, W)."""
        (logits,) = self._session.run(None, {self.manifest.input.name: tensor})
        return logits

    def close(self) -> None:
        self._driver = None

    @property
    def _sizes(self) -> tuple[int, int]:
        """Bytes of the two tensors."""
        shapes = input_shape(self.manifest), output_shape(self.manifest)
        return prod(shapes[0]) * self.input_dtype.itemsize, prod(shapes[1]) * self.output_dtype.itemsize
