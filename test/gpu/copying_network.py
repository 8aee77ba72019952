"""An engine for any driver: copies on the stream, which a graph can hold, in place of layers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import EngineManifest, InputSpec, OutputSpec
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver, HostBuffer
from eseg_ros.runtime.tensors import input_shape, output_shape

STRIDE = 8
PALETTE = np.random.default_rng(11).integers(0, 256, (255, 3), np.uint8)
"""Red, green, blue by class."""


class CopyingNetwork:
    """A `DeviceNetwork` whose logits are given, or else the first values of its input tensor.

    The tensors go through page-locked memory, where the test finds the input and leaves the logits.

    Args:
        manifest: of the engine that it stands for.
        dtype: of the tensors, float32 or float16.
        given: whether the logits are those in `logits`.
    """

    name = "copying"
    description = "copies in place of a network"

    def __init__(
        self, manifest: EngineManifest, *, dtype: type[np.floating[Any]] = np.float32, given: bool = False
    ) -> None:
        self.manifest = manifest
        self.input_dtype = self.output_dtype = np.dtype(dtype)
        self._given = given
        self._driver: Driver | None = None
        self._buffers: list[HostBuffer] = []
        self._addresses = (0, 0)

    @property
    def input(self) -> npt.NDArray[np.floating]:
        """(3, H, W): the latest input, once its frame is done."""
        return self._buffers[0].array.view(self.input_dtype).reshape(input_shape(self.manifest))[0].copy()

    @property
    def logits(self) -> npt.NDArray[np.floating]:
        """(C, h, w), to be written while nothing is under way."""
        return self._buffers[1].array.view(self.output_dtype).reshape(output_shape(self.manifest))[0]

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        self._driver = driver
        self._buffers = [driver.alloc_host(size) for size in self._sizes]
        self.logits[:] = 0

    def bind(self, input_address: int, output_address: int) -> None:
        self._addresses = input_address, output_address

    def enqueue(self, stream: int) -> None:
        assert self._driver is not None, "the network is not loaded, or closed"
        (source, target), (read, written) = self._addresses, self._sizes
        self._driver.copy_out(self._buffers[0], source, read, stream)
        self._driver.copy_in(target, self._buffers[1 if self._given else 0], written, stream)

    def close(self) -> None:
        while self._buffers:
            assert self._driver is not None
            self._driver.free_host(self._buffers.pop())

    @property
    def _sizes(self) -> tuple[int, int]:
        """Bytes of the two tensors."""
        shapes = input_shape(self.manifest), output_shape(self.manifest)
        return prod(shapes[0]) * self.input_dtype.itemsize, prod(shapes[1]) * self.output_dtype.itemsize


def manifest_of(
    classes: int = 19,
    size: tuple[int, int] = (96, 64),
    *,
    stride: int = STRIDE,
    resize: str = "stretch",
    color_order: str = "rgb",
) -> EngineManifest:
    """The manifest of an engine with this many classes and this input, (width, height)."""
    width, height = size
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in PALETTE[:classes])
    return EngineManifest(
        name="copies",
        model="copies",
        classes=ClassSet("numbered", tuple(f"class {index}" for index in range(classes)), colors),
        input=InputSpec(
            "image",
            width,
            height,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            resize=resize,
            color_order=color_order,
        ),
        output=OutputSpec("logits", stride, width // stride, height // stride),
        precision="fp32",
        onnx_file="copies.onnx",
        onnx_sha256="",
        opset=18,
    )
