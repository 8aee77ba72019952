"""Writes a video that a browser plays, with what OpenCV carries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.errors import EsegError

# OpenCV's wheels carry no H.264 encoder, but VP8, which every browser plays; a distribution's OpenCV may differ.
FORMATS = ((".webm", "VP80"), (".mp4", "avc1"), (".avi", "MJPG"))


class VideoWriter:
    """A video file of one size; a context manager.

    Args:
        stem: path without a suffix, which tells the format that was found.
        width, height: of every frame, pixels.
        rate_hz: frames a second.

    Attributes:
        path: the video.

    Raises:
        EsegError: this OpenCV can write none of the formats.
    """

    def __init__(self, stem: Path, width: int, height: int, rate_hz: float) -> None:
        for suffix, codec in FORMATS:
            self.path = stem.with_suffix(suffix)
            with _silent_stderr():
                self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*codec), rate_hz, (width, height))
            if self._writer.isOpened():
                return
            self.path.unlink(missing_ok=True)
        tried = ", ".join(codec for _, codec in FORMATS)
        raise EsegError(f"this OpenCV {cv2.__version__} ({sys.executable}) writes no video; tried {tried}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.release()

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Add a frame. `image`: (H, W, 3) uint8 BGR."""
        self._writer.write(image)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C code prints: OpenCV's FFmpeg complains of a missing tag and then writes a flawless file."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
