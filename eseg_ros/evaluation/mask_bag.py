"""Masks written back as a bag that plays beside the images' own: for Foxglove, rviz, or another evaluation."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2

from eseg_ros.bag.writer import BagWriter
from eseg_ros.evaluation.processes import CAMERA, MASK_TOPIC
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.paint import Painter

OVERLAY_TOPIC = f"/segmentation/{CAMERA}/overlay/compressed"
_ALPHA = 0.5
_JPEG_QUALITY = 85


class MaskBag:
    """A new bag with the masks (mono8) and overlays (JPEG) of a sequence, with the images' stamps; a context manager.

    Raises:
        BagError: `path` exists already or cannot be made.
    """

    def __init__(self, path: Path, classes: ClassSet) -> None:
        self._bag = BagWriter(path, zstd=True)
        self._painter = Painter(classes)

    def __enter__(self) -> MaskBag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bag.__exit__(kind, error, traceback)

    def add(self, view: FrameView) -> None:
        """Write the next frame, if it has a mask. Its log time is its stamp."""
        if view.mask is None:
            return
        frame = view.frame
        self._bag.write_image(MASK_TOPIC, view.mask, frame.stamp_ns, frame.frame_id, "mono8")
        overlay = self._painter.overlay(view.image, self._painter.color_mask(view.mask), _ALPHA)
        _, data = cv2.imencode(".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._bag.write_compressed(OVERLAY_TOPIC, bytes(data), "jpeg", frame.stamp_ns, frame.frame_id)
