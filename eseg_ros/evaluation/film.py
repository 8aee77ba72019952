"""A drive as a film and as one picture: the camera beside what the node made of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.evaluation.record import FrameScore
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.evaluation.video import VideoWriter
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.types import Image8

ALPHA = 0.5
"""Weight of the colors in an overlay."""
VIDEO_WIDTH = 480
"""Pixels of each half of the video."""
VISIBLE_SHARE = 0.002
"""Share of the pixels from which on a class counts as visible in a frame."""


class Film:
    """Films the frames that were answered; a context manager.

    Args:
        classes: names and colors.
        stem: path of the video without suffix.
        rate_hz: frames a second of the video.

    Attributes:
        video: the video; None before the first frame.
    """

    def __init__(self, classes: ClassSet, stem: Path, rate_hz: float) -> None:
        self.video: Path | None = None
        self._classes = classes
        self._stem, self._rate_hz = stem, rate_hz
        self._painter = Painter(classes)
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None
        self._mask_pixels: npt.NDArray[np.int64] = np.zeros(256, np.int64)
        self._most_classes = 0
        self._best: tuple[Image8, Image8] | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def add(self, view: FrameView, score: FrameScore) -> None:
        """Take the next frame."""
        if view.mask is None:
            return
        overlay = self._painter.overlay(view.image, self._painter.color_mask(view.mask), ALPHA)
        self._write(view.image, overlay)
        counts = np.bincount(view.mask.ravel(), minlength=256)
        self._mask_pixels += counts
        visible = int((counts > VISIBLE_SHARE * view.mask.size).sum())
        if visible > self._most_classes:
            self._most_classes, self._best = visible, (view.image.copy(), overlay)

    def picture(self) -> Image8 | None:
        """The frame that shows most classes, camera and overlay side by side over a legend. (H, W, 3) uint8 BGR."""
        if self._best is None:
            return None
        side_by_side = np.hstack(self._best)
        named = self._mask_pixels[: len(self._classes)] > VISIBLE_SHARE / 10 * self._mask_pixels.sum()
        return np.vstack([side_by_side, _legend(self._classes, np.flatnonzero(named).tolist(), side_by_side.shape[1])])

    def _write(self, image: Image8, overlay: Image8) -> None:
        height, width = image.shape[:2]
        size = (VIDEO_WIDTH, 2 * round(height * VIDEO_WIDTH / width / 2))  # encoders want even sizes
        if self._writer is None:
            self._writer = self._stack.enter_context(VideoWriter(self._stem, 2 * size[0], size[1], self._rate_hz))
            self.video = self._writer.path
        halves = [cv2.resize(half, size, interpolation=cv2.INTER_AREA) for half in (image, overlay)]
        self._writer.write(np.hstack(halves))


def _legend(classes: ClassSet, class_ids: list[int], width: int) -> Image8:
    """Names and colors of some classes, `width` pixels wide, in as many rows as they need."""
    scale = width / 1280
    font, row_height, margin = cv2.FONT_HERSHEY_SIMPLEX, round(34 * scale), round(14 * scale)
    legend: Image8 = np.full((round(1.5 * row_height), width, 3), 255, np.uint8)
    x, y = margin, row_height
    for class_id in class_ids:
        name = classes.names[class_id].replace("_", " ")
        swatch_width, text_width = round(28 * scale), cv2.getTextSize(name, font, 0.6 * scale, 1)[0][0]
        if x + swatch_width + text_width > width:
            x, y = margin, y + row_height
            legend = np.vstack([legend, np.full((row_height, width, 3), 255, np.uint8)])
        corners = (x, y - round(15 * scale)), (x + round(20 * scale), y + round(5 * scale))
        cv2.rectangle(legend, *corners, classes.palette[class_id][::-1], cv2.FILLED)
        cv2.putText(legend, name, (x + swatch_width, y), font, 0.6 * scale, (40, 40, 40), 1, cv2.LINE_AA)
        x += swatch_width + text_width + 2 * margin
    return legend
