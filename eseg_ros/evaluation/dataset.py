"""Frames and labels of a data set on disk, `ROOT/SPLIT/images/NAME.(jpg|png)` and `ROOT/SPLIT/labels/NAME.png`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from eseg_ros.errors import EsegError
from eseg_ros.runtime.types import Frame, Image8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class DatasetError(EsegError):
    """A data set cannot be evaluated on; the message names the file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame of a split and its label, still on disk."""

    name: str
    image: Path
    label: Path


def list_samples(root: Path, split: str, *, labeled: bool = True) -> list[Sample]:
    """All frames of a split, sorted by name: the order in which they were driven.

    Raises:
        DatasetError: there are no frames, or, with `labeled`, a frame has no label.
    """
    images = root / split / "images"
    labels = root / split / "labels"
    paths = sorted(path for path in images.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        found = ", ".join(sorted(path.name for path in root.glob("*/"))) or "nothing"
        raise DatasetError(
            f"{images} holds no .jpg or .png frames; expected ROOT/SPLIT/images and ROOT/SPLIT/labels. "
            f"In {root} there is: {found}. Choose with --data ROOT --split SPLIT"
        )
    samples = [Sample(path.stem, path, labels / f"{path.stem}.png") for path in paths]
    missing = [sample for sample in samples if not sample.label.is_file()]
    if missing and labeled:
        raise DatasetError(
            f"{missing[0].label} is missing ({len(missing)} of {len(samples)} frames have no label); "
            "every image needs a PNG of class ids of the same name"
        )
    return samples


def read_frame(path: Path, stamp_ns: int = 0) -> Frame:
    """An image file as a bgr8 camera frame.

    Raises:
        DatasetError: not a readable image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} is not a readable image; replace it or take it and its label out of the split")
    return image_frame(image, stamp_ns)


def image_frame(image: Image8, stamp_ns: int = 0) -> Frame:
    """(H, W, 3) uint8 BGR, contiguous, as a camera frame over the same memory."""
    height, width, _ = image.shape
    return Frame(image.data.cast("B"), "bgr8", width, height, 3 * width, stamp_ns)


def read_label(path: Path) -> Image8:
    """(H, W) uint8 class ids.

    Raises:
        DatasetError: not a readable 8-bit image of one channel.
    """
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise DatasetError(f"{path} is not a readable image; expected an 8-bit PNG of class ids")
    if label.dtype != np.uint8 or label.ndim != 2:
        raise DatasetError(
            f"{path} has shape {label.shape} and type {label.dtype}; expected an 8-bit PNG of class ids, one channel"
        )
    ids: Image8 = label
    return ids
