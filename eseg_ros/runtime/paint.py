"""Class ids as colours: the one way in which the node, the report and the video draw a mask."""

from __future__ import annotations

import cv2
import numpy as np

from eseg_ros.labels import ClassSet
from eseg_ros.runtime.types import Image8


class Painter:
    """Draws masks in a class set's colours; ids without a class are black."""

    def __init__(self, classes: ClassSet) -> None:
        self._colors = np.ascontiguousarray(classes.color_table()[:, ::-1])[:, None]  # (256, 1, 3) BGR

    def color_mask(self, mask: Image8) -> Image8:
        """(H, W) uint8 ids -> (H, W, 3) uint8 BGR."""
        colors: Image8 = cv2.applyColorMap(mask, self._colors)
        return colors

    def overlay(self, image: Image8, color_mask: Image8, alpha: float) -> Image8:
        """The image with `alpha` of the color mask over it, both (H, W, 3) uint8 BGR."""
        blended: Image8 = cv2.addWeighted(image, 1 - alpha, color_mask, alpha, 0)
        return blended
