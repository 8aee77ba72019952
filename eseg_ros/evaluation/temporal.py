"""How steady masks are over time, which needs no ground truth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.runtime.types import Image8

FLOW_WIDTH = 480
"""Pixels of the images that the flow is computed on; wider ones are made smaller first."""


class TemporalConsistency:
    """Share of the pixels that keep their class from one frame to the next while the scene moves.

    The previous mask is warped to the current frame by dense optical flow (DIS, Kroeger et al. 2016). A pixel counts
    where the flows forth and back agree, by the criterion of Sundaram et al. 2010, and where it was in the picture
    before: so neither occlusions nor the image's border count as flicker.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._previous: tuple[Image8, Image8] | None = None

    def update(self, image: Image8, mask: Image8) -> float:
        """Take the next frame.

        Args:
            image: (H, W, 3) uint8 BGR.
            mask: (H', W') uint8 class ids of the same view.

        Returns:
            The share, 0 to 1; NaN for the first frame, after a change of size, and where no flow is consistent.
        """
        size = _flow_size(image)
        gray = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        previous, self._previous = self._previous, (gray, small)
        if previous is None or previous[0].shape != gray.shape:
            return float("nan")
        back = self._flow.calc(gray, previous[0], None)  # (h, w, 2) pixels, from this frame into the previous one
        forth = self._flow.calc(previous[0], gray, None)
        y, x = np.indices(gray.shape, np.float32)
        there_x, there_y = x + back[..., 0], y + back[..., 1]
        returned = cv2.remap(forth, there_x, there_y, cv2.INTER_LINEAR)
        steady = _consistent(back, returned) & _inside(there_x, there_y)
        if not steady.any():
            return float("nan")
        warped = cv2.remap(previous[1], there_x, there_y, cv2.INTER_NEAREST)
        return float((warped == small)[steady].mean())


def _flow_size(image: Image8) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = min(1.0, FLOW_WIDTH / width)
    return max(16, round(width * scale)), max(16, round(height * scale))


def _consistent(flow: npt.NDArray[np.float32], returned: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Sundaram et al. 2010, equation 5: |w + w'|^2 < 0.01 (|w|^2 + |w'|^2) + 0.5."""
    gap = np.square(flow + returned).sum(-1)
    consistent: npt.NDArray[np.bool_] = gap < 0.01 * (np.square(flow).sum(-1) + np.square(returned).sum(-1)) + 0.5
    return consistent


def _inside(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    height, width = x.shape
    inside: npt.NDArray[np.bool_] = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside
