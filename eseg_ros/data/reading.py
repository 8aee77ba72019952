"""Frames and labels from files, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.errors import EsegError
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.types import Frame

Image = npt.NDArray[np.uint8]

_PNG_COLOR_TYPE = 25
"""Place of the color type in a PNG file; 3 means that pixels are indices of a palette."""


class DataError(EsegError):
    """Frames that cannot be used. The message names the file."""


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """How a stored label becomes class ids.

    Attributes:
        name: of the data set that stores labels so.
        ids: stored value -> class id or the ignored id, for labels of one channel (palette indices count as such).
        colors: stored RGB -> class id or the ignored id, for labels of three channels.
    """

    name: str
    ids: Mapping[int, int]
    colors: Mapping[tuple[int, int, int], int]


ANY_IDS = LabelCoding("any class set", {i: i for i in range(256)}, {})
"""Ids whose classes are not known where they are read: every 8-bit value stands for itself."""


def identity_coding(classes: ClassSet) -> LabelCoding:
    """Labels that store the class ids themselves, and the ignored id."""
    ids = {i: i for i in (*range(len(classes)), classes.ignore_id)}
    return LabelCoding(classes.name, ids, {})


def read_image(path: Path) -> Image:
    """(H, W, 3) uint8 RGB, as networks are trained on it.

    Raises:
        DataError: not a readable image.
    """
    rgb: Image = cv2.cvtColor(read_bgr(path), cv2.COLOR_BGR2RGB)
    return rgb


def read_bgr(path: Path) -> Image:
    """(H, W, 3) uint8 BGR, as OpenCV and cameras have it.

    Raises:
        DataError: not a readable image.
    """
    image: Image | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: not a readable image; replace it, or remove it and its label")
    return image


def read_frame(path: Path, stamp_ns: int = 0) -> Frame:
    """An image file as a bgr8 camera frame.

    Raises:
        DataError: not a readable image.
    """
    return image_frame(read_bgr(path), stamp_ns)


def image_frame(image: Image, stamp_ns: int = 0) -> Frame:
    """(H, W, 3) uint8 BGR, contiguous, as a camera frame over the same memory."""
    height, width, _ = image.shape
    return Frame(image.data.cast("B"), "bgr8", width, height, 3 * width, stamp_ns)


def read_label(path: Path, coding: LabelCoding) -> Image:
    """(H, W) uint8 class ids.

    Raises:
        DataError: not a readable 8-bit label, or it holds values that the coding does not know.
    """
    stored = _read_stored(path)
    if stored.dtype != np.uint8 or stored.ndim != (3 if coding.colors else 2):
        wanted = "RGB colors in an 8-bit" if coding.colors else "class ids in an 8-bit single-channel"
        raise DataError(f"{path}: expected {wanted} PNG, found {stored.dtype} of shape {stored.shape}")
    if coding.colors:
        return _ids_of_colors(path, stored, coding)
    table = np.full(256, -1, np.int16)
    table[list(coding.ids)] = list(coding.ids.values())
    unknown = [int(i) for i in np.flatnonzero(np.bincount(stored.ravel(), minlength=256)) if table[i] < 0]
    if unknown:
        raise DataError(
            f"{path}: ids {unknown} are none that labels of {coding.name} hold "
            f"({_ranges(coding.ids)}); convert the labels or choose another class set"
        )
    ids: Image = cv2.LUT(stored, table.clip(0).astype(np.uint8))
    return ids


def _read_stored(path: Path) -> npt.NDArray[np.generic]:
    """The label's values as they are in the file: (H, W), or (H, W, 3) RGB."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_COLOR_TYPE + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if head[:4] == b"\x89PNG" and len(head) > _PNG_COLOR_TYPE and head[_PNG_COLOR_TYPE] == 3:
        return _read_palette_indices(path)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DataError(f"{path}: not a readable image; expected an 8-bit PNG of class ids")
    values: npt.NDArray[np.generic] = stored if stored.ndim == 2 else cv2.cvtColor(stored[..., :3], cv2.COLOR_BGR2RGB)
    return values


def _read_palette_indices(path: Path) -> Image:
    """Indices of a palette PNG, which OpenCV would turn into colors."""
    from PIL import Image as Picture

    try:
        with Picture.open(path) as picture:
            indices: Image = np.asarray(picture, np.uint8)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: not a readable image: {error}") from None
    return indices


def _ids_of_colors(path: Path, stored: npt.NDArray[np.generic], coding: LabelCoding) -> Image:
    weights = np.array([65536, 256, 1])
    known = np.array(list(coding.colors)) @ weights
    order = np.argsort(known)
    packed = stored.astype(np.int32) @ weights  # (H, W)
    place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
    wrong = known[order][place] != packed
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        color = tuple(int(c) for c in np.atleast_1d(stored[y, x]))
        raise DataError(
            f"{path}: color {color} at x {x}, y {y} is none that labels of {coding.name} hold "
            f"({int(wrong.sum())} such pixels); labels must be stored without loss and never be resized smoothly"
        )
    ids: Image = np.array(list(coding.colors.values()), np.uint8)[order][place]
    return ids


def _ranges(ids: Mapping[int, int]) -> str:
    """Sorted numbers as "0 to 10, 255"."""
    parts: list[list[int]] = []
    for value in sorted(ids):
        if parts and parts[-1][-1] == value - 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in parts)
