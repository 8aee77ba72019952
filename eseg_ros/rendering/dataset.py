"""Rendered frames as a data set on disk, in the layout the trainer reads."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eseg_ros.errors import UsageError
from eseg_ros.rendering.renderer import render_frame

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def render_split(
    root: Path,
    split: str,
    frames: int,
    seed: int,
    width: int = 480,
    height: int = 360,
    workers: int | None = None,
) -> None:
    """Write ROOT/SPLIT/images/NAME.jpg and ROOT/SPLIT/labels/NAME.png, every frame from a street of its own.

    The frames depend on seed, split and index alone, so splits never share a frame and more workers change nothing.

    Args:
        root: the data set's folder; made where it is missing.
        split: e.g. "train".
        frames: how many.
        seed: chooses all of them.
        width, height: pixels.
        workers: processes; None is one a core.

    Raises:
        UsageError: fewer than one frame, an empty split name, or a size under 32 pixels.
    """
    if frames < 1 or not split:
        raise UsageError(f"{frames} frames for split {split!r}; expected at least one frame and a name")
    folder = root / split
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    render = partial(_write_frame, folder, (seed, zlib.crc32(split.encode())), width, height)
    workers = workers or os.cpu_count() or 1
    progress = partial(tqdm, total=frames, desc=f"render {split}", unit="frame")
    if workers == 1:
        for _ in progress(map(render, range(frames))):
            pass
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for _ in progress(pool.map(render, range(frames), chunksize=8)):
            pass


def _write_frame(folder: Path, seeds: tuple[int, int], width: int, height: int, index: int) -> None:
    frame = render_frame((*seeds, index), width, height)
    name = f"{index:06d}"
    _write(folder / "images" / f"{name}.jpg", cv2.imencode(".jpg", frame.image, JPEG))
    _write(folder / "labels" / f"{name}.png", cv2.imencode(".png", frame.label))


def _write(path: Path, encoded: tuple[bool, npt.NDArray[np.uint8]]) -> None:
    done, data = encoded
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {path.name}; reinstall opencv-python-headless")
    path.write_bytes(data.tobytes())
