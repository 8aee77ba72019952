"""Small pictures of frames, in layers, for the report: kept beside a sequence's record."""

from __future__ import annotations

import heapq
from pathlib import Path

import cv2
import numpy as np

from eseg_ros.evaluation.record import FrameScore
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.types import Image8

WIDTH = 480
"""Pixels; larger pictures only make the page heavy."""
WORST = 12
"""Worst frames of a sequence that get a picture whatever their place."""

LAYERS = {"camera": ".jpg", "truth": ".png", "prediction": ".png", "error": ".png", "confidence": ".jpg"}
"""Layer -> kind of file. Those in PNG are transparent where they say nothing, to lie over the camera's picture."""

_JPEG_QUALITY = 80
_WRONG = (40, 40, 230, 215)  # BGRA
_UNLABELED = (128, 128, 128, 110)


class PictureSelection:
    """Pictures of frames spread evenly over a sequence and of its worst ones.

    Args:
        classes: names and colors.
        expected: how many frames will come.
        spread: how many of them get a picture; 0 for none at all, the worst included.
    """

    def __init__(self, classes: ClassSet, expected: int, spread: int) -> None:
        self._classes = classes
        self._painter = Painter(classes)
        self._spread = set(np.linspace(0, max(expected - 1, 0), spread).round().astype(int).tolist())
        self._worst: list[tuple[float, int]] = []  # a heap, the best of them first
        self._pictures: dict[int, dict[str, bytes]] = {}

    def add(self, view: FrameView, score: FrameScore) -> None:
        """Look at the next frame, and keep it if it is one to be shown."""
        if not self._spread or view.mask is None:
            return
        displaced = self._rank(-score.quality(), view.index)
        if displaced != view.index or view.index in self._spread:
            self._pictures[view.index] = picture_layers(view, self._classes, self._painter)
        if displaced is not None and displaced not in self._spread:
            self._pictures.pop(displaced, None)

    def _rank(self, badness: float, index: int) -> int | None:
        """Put a frame among the worst; the frame that falls out, which may be the same, or None."""
        if np.isnan(badness):
            return index
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, (badness, index))
            return None
        return heapq.heappushpop(self._worst, (badness, index))[1]

    def write(self, folder: Path) -> None:
        """Write the pictures as `FOLDER/INDEX.LAYER.jpg` or `.png`."""
        folder.mkdir(exist_ok=True)
        for index, layers in self._pictures.items():
            for layer, data in layers.items():
                (folder / f"{index:06}.{layer}{LAYERS[layer]}").write_bytes(data)


def stored_pictures(folder: Path) -> dict[int, dict[str, Path]]:
    """The pictures of a sequence: index of the frame -> layer -> file. Empty where none were kept."""
    pictures: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.*.*")):
        index, layer, _ = path.name.split(".")
        pictures.setdefault(int(index), {})[layer] = path
    return pictures


def picture_layers(view: FrameView, classes: ClassSet, painter: Painter) -> dict[str, bytes]:
    """The layers of a frame that has a mask, encoded as the files that `LAYERS` names."""
    assert view.mask is not None
    size = _size(view.image)
    mask = cv2.resize(view.mask, size, interpolation=cv2.INTER_NEAREST)
    layers = {
        "camera": cv2.resize(view.image, size, interpolation=cv2.INTER_AREA),
        "prediction": _transparent(mask, classes, painter),
    }
    if view.label is not None:
        label = cv2.resize(view.label, size, interpolation=cv2.INTER_NEAREST)
        layers["truth"] = _transparent(label, classes, painter)
        layers["error"] = _errors(mask, label, classes.ignore_id)
    if view.confidence is not None:
        small = cv2.resize(view.confidence, size, interpolation=cv2.INTER_AREA)
        layers["confidence"] = cv2.applyColorMap(small, cv2.COLORMAP_VIRIDIS)
    return {layer: _encode(image, LAYERS[layer]) for layer, image in layers.items()}


def _size(image: Image8) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = min(1.0, WIDTH / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _transparent(ids: Image8, classes: ClassSet, painter: Painter) -> Image8:
    """Ids in their colors, nothing where they are no class. (H, W, 4) BGRA."""
    alpha: Image8 = np.where(ids < len(classes), np.uint8(255), np.uint8(0))
    return np.dstack([painter.color_mask(ids), alpha])


def _errors(mask: Image8, label: Image8, ignore_id: int) -> Image8:
    """Red where the mask is wrong, gray where nobody knows. (H, W, 4) BGRA."""
    errors: Image8 = np.zeros((*mask.shape, 4), np.uint8)
    errors[mask != label] = _WRONG
    errors[label == ignore_id] = _UNLABELED
    return errors


def _encode(image: Image8, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    _, data = cv2.imencode(suffix, image, options)
    return bytes(data)
