"""From a BGR camera image to the engine's input tensor."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import InputSpec
from eseg_ros.runtime.geometry import place
from eseg_ros.runtime.types import Image8


class Preprocessor:
    """Resize, order the channels, normalise, all in OpenCV's vectorised code, straight into the tensor.

    Each channel becomes `value * scale + offset`, which is `(value / 255 - mean) / std`. The buffers between are kept:
    fresh pages for each frame would cost more than the arithmetic. So it is not for several threads at once.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._channels = (2, 1, 0) if spec.color_order == "rgb" else (0, 1, 2)
        self._scale = [1 / (255 * std) for std in spec.std]
        self._offset = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
        self._resized = np.empty((0, 0, 3), np.uint8)
        self._planes: list[Image8] = []

    def __call__(self, image: Image8, tensor: npt.NDArray[np.float32]) -> None:
        """Fill `tensor` (1, 3, height, width) float32 from `image` (H, W, 3) uint8 BGR of any size."""
        spec = self._spec
        placed = place((image.shape[1], image.shape[0]), spec)
        size = (placed.height, placed.width)
        if self._resized.shape[:2] != size:
            self._resized = np.empty((*size, 3), np.uint8)
            self._planes = [np.empty(size, np.uint8) for _ in range(3)]
        if image.shape[:2] != size:
            image = cv2.resize(image, size[::-1], dst=self._resized, interpolation=cv2.INTER_LINEAR)
        rows = slice(placed.top, placed.top + placed.height)
        columns = slice(placed.left, placed.left + placed.width)
        if size != (spec.height, spec.width):
            tensor[:] = 0  # the mean colour
        cv2.split(image, self._planes)
        for target, channel, scale, offset in zip(tensor[0], self._channels, self._scale, self._offset, strict=True):
            # A weighted sum with nothing: OpenCV's one pass from uint8 to scaled float32 in place.
            plane = self._planes[channel]
            cv2.addWeighted(plane, scale, plane, 0, offset, dst=target[rows, columns], dtype=cv2.CV_32F)
