"""From logits at the head's stride to masks and pictures at the camera's resolution, exactly and fast.

The mask is the argmax of the bilinearly upsampled logits (half-pixel centres, PyTorch's align_corners=False). The plain
way interpolates every class at every pixel and compares; nearly all of that work decides nothing:

- Between four neighbouring logits (a *cell*) an interpolated value is a convex combination of the four corners. So a
  class that wins all four corners wins in the whole cell, and needs no interpolation.
- In the other cells a class whose largest corner lies below another class's smallest corner is below it everywhere in
  the cell, and cannot win. Only the remaining *candidates* are interpolated, usually two or three.
- What is left out could not have won, and what is interpolated has the weights that PyTorch gives it; so the mask is
  that of `interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)` but for ties in the last digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.labels import Relabeling
from eseg_ros.runtime.geometry import place, scaled_size
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.types import Image8, Outputs

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.intp]

UNDECIDED_ID = 255
"""Mask value of pixels below the confidence threshold."""

BLOCK_PIXELS = 1 << 16
"""Pixels interpolated at a time: few enough that a class's values, 256 KiB, stay in a core's second-level cache."""

LARGEST_LOGIT = 1e30
"""Stands for infinity, whose interpolation would be NaN; its negative stands for NaN."""


class Postprocessor:
    """Masks and pictures for one engine."""

    def __init__(self, manifest: EngineManifest) -> None:
        self._input = manifest.input
        self._painter = Painter(manifest.classes)
        self._relabeling: Relabeling | None = None
        self._relabeled_painter = self._painter

    def __call__(
        self, logits: FloatArray, image: Image8, outputs: Outputs
    ) -> tuple[Image8, Image8 | None, Image8 | None, Image8 | None]:
        """Mask and, where asked for, color mask, overlay and confidence of one frame.

        All have the size that `outputs.scale` says (h', w' below). The logits are sampled at the output's own pixels,
        so that no ids are ever resized; the camera image under an overlay is resized bilinearly.

        Args:
            logits: (C, h, w) float32 at the head's stride. A NaN never wins; where all are NaN the class is 0.
            image: (H, W, 3) uint8 BGR, the camera image.
            outputs: what is wanted.

        Returns:
            mask (h', w') uint8, color mask (h', w', 3) BGR, overlay (h', w', 3) BGR, confidence (h', w') uint8. Where
            several classes are equally likely the lowest of the engine's ids wins, as in argmax. The confidence is that
            of the engine's winning class, also where it was merged with others.
        """
        size = (image.shape[1], image.shape[0])
        placed = place(size, self._input)
        width, height = scaled_size(size, outputs.scale)
        rows = cells_along(height, logits.shape[1], placed.top, placed.height, self._input.height)
        columns = cells_along(width, logits.shape[2], placed.left, placed.width, self._input.width)
        with_confidence = outputs.confidence or outputs.confidence_threshold > 0
        mask, confidence = segment(logits, rows, columns, with_confidence=with_confidence)
        if outputs.relabeling is not None:
            cv2.LUT(mask, np.frombuffer(outputs.relabeling.ids, np.uint8), dst=mask)
        if confidence is not None:
            mask[confidence < 255 * outputs.confidence_threshold] = UNDECIDED_ID
        color_mask = overlay = None
        if outputs.color_mask or outputs.overlay:
            painter = self._painter_for(outputs.relabeling)
            color_mask = painter.color_mask(mask)
            if outputs.overlay:
                overlay = painter.overlay(_resized(image, (width, height)), color_mask, outputs.overlay_alpha)
        return (
            mask,
            color_mask if outputs.color_mask else None,
            overlay,
            confidence if outputs.confidence else None,
        )

    def _painter_for(self, relabeling: Relabeling | None) -> Painter:
        """The painter of the relabeled classes; kept, because the relabeling is the same from frame to frame."""
        if relabeling is None:
            return self._painter
        if relabeling is not self._relabeling:
            self._relabeling, self._relabeled_painter = relabeling, Painter(relabeling.classes)
        return self._relabeled_painter


def _resized(image: Image8, size: tuple[int, int]) -> Image8:
    """The image at `size` (width, height), bilinearly; itself where it has that size."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    resized: Image8 = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return resized


@dataclass(frozen=True, slots=True)
class CellAxis:
    """The cells along one axis that hold pixels, in order, and the pixels of each.

    A pixel belongs to the cell between the two logits that it is interpolated from; before the first logit and behind
    the last both are the same. Cells hold different numbers of pixels where the scale is no integer: shorter ones
    repeat their last pixel up to the common number `span`.

    Attributes:
        low, high: (cells,) index of the logit at either end.
        cell_of_pixel: (pixels,) the cell that a pixel belongs to.
        pixel: (cells, span) index of each of its pixels.
        weight: (cells, span) weight of `high` at each of its pixels, 0 to 1.
    """

    low: IndexArray
    high: IndexArray
    cell_of_pixel: IndexArray
    pixel: IndexArray
    weight: FloatArray


@lru_cache(maxsize=64)
def cells_along(pixels: int, logits: int, start: int, length: int, input_length: int) -> CellAxis:
    """The cells along one axis.

    The image's `pixels` fill `length` of the engine input's `input_length` pixels from `start` on; the `logits` fill
    all of it. Positions are computed in float32 as PyTorch's `area_pixel_compute_source_index` does, so that weights
    are equal.
    """
    scale = np.float32(length * logits / (input_length * pixels))
    offset = np.float32(start * logits / input_length)
    position = scale * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) + (offset - np.float32(0.5))
    before = np.floor(position)
    cell, first, count = np.unique(before.astype(np.intp), return_index=True, return_counts=True)
    pixel = np.minimum(first[:, None] + np.arange(count.max()), (first + count - 1)[:, None])  # (cells, span)
    return CellAxis(
        low=cell.clip(0, logits - 1),
        high=(cell + 1).clip(0, logits - 1),
        cell_of_pixel=np.repeat(np.arange(len(cell)), count),
        pixel=pixel,
        weight=(position - before)[pixel],
    )


def segment(
    logits: FloatArray, rows: CellAxis, columns: CellAxis, *, with_confidence: bool = False
) -> tuple[Image8, Image8 | None]:
    """Upsample and take the argmax, as the module describes.

    Args:
        logits: (classes, h, w).
        rows, columns: the mask's pixels on the logits' axes.
        with_confidence: also compute the winner's softmax probability, 255 = certain. Classes that together weigh less
            than half a level of 255 are left out, so that it lies within one level of the exact value.

    Returns:
        (H, W) uint8 class ids, and the confidence (H, W) uint8 or None.
    """
    logits = _finite(logits)
    winner = _argmax(logits)  # (h, w)
    corners = [winner[y[:, None], x] for y in (rows.low, rows.high) for x in (columns.low, columns.high)]
    mask = corners[0][:, columns.cell_of_pixel][rows.cell_of_pixel]  # right wherever a cell has one winner
    if with_confidence:
        confidence = np.full_like(mask, 255)
        undecided = np.ones(corners[0].shape, bool)
        margin = float(np.log(510 * len(logits)))
    else:
        confidence = None
        undecided = (corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3])
        margin = 0.0
    cells = _find_candidates(logits, rows, columns, undecided, margin)
    for block in _blocks(cells, rows.pixel.shape[1] * columns.pixel.shape[1]):
        _interpolate(logits, rows, columns, cells, block, mask, confidence)
    return mask, confidence


def _finite(logits: FloatArray) -> FloatArray:
    """The logits as contiguous float32 with NaN as the least value; a copy only where needed."""
    logits = np.ascontiguousarray(logits, np.float32)
    if np.isfinite(logits).all():
        return logits
    return np.nan_to_num(logits, nan=-LARGEST_LOGIT, posinf=LARGEST_LOGIT, neginf=-LARGEST_LOGIT)


def _argmax(logits: FloatArray) -> Image8:
    """`logits.argmax(0)`, three times as fast. (classes, h, w) -> (h, w) uint8."""
    best = logits[0].copy()
    winner = np.zeros(best.shape, np.uint8)
    larger = np.empty(best.shape, bool)
    for class_id, plane in enumerate(logits):
        np.greater(plane, best, out=larger)
        np.maximum(plane, best, out=best)
        np.copyto(winner, np.uint8(class_id), where=larger)
    return winner


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells to be interpolated, those with most candidates first.

    Attributes:
        row, column: (n,) place of each cell on the two axes.
        corners: (4, n) flat index of its corners in a plane of logits: low-low, low-high, high-low, high-high.
        count: (n,) number of its candidates, falling.
        first: (n,) where its candidates begin in `candidates`.
        candidates: class ids, cell after cell, rising within a cell.
    """

    row: IndexArray
    column: IndexArray
    corners: IndexArray
    count: IndexArray
    first: IndexArray
    candidates: IndexArray


def _find_candidates(
    logits: FloatArray, rows: CellAxis, columns: CellAxis, undecided: npt.NDArray[np.bool_], margin: float
) -> _Cells:
    """The undecided cells with the classes that come within `margin` of winning somewhere in them."""
    row, column = np.nonzero(undecided)
    width = logits.shape[2]
    corners = np.stack(
        [y[row] * width + x[column] for y in (rows.low, rows.high) for x in (columns.low, columns.high)]
    )  # (4, n)
    planes = logits.reshape(len(logits), -1)
    at_corners = [planes.take(corner, axis=1) for corner in corners]  # 4 of (classes, n)
    largest = np.maximum(np.maximum(*at_corners[:2]), np.maximum(*at_corners[2:]))
    smallest = np.minimum(np.minimum(*at_corners[:2]), np.minimum(*at_corners[2:]))
    is_candidate = largest >= smallest.max(axis=0) - np.float32(margin)  # (classes, n)
    count = np.count_nonzero(is_candidate, axis=0)
    order = np.argsort(-count, kind="stable")
    order = order[: np.count_nonzero(count > 1)]  # a single candidate needs no comparison
    count = count[order]
    return _Cells(
        row=row[order],
        column=column[order],
        corners=corners[:, order],
        count=count,
        first=np.cumsum(count) - count,
        candidates=np.nonzero(is_candidate.T[order])[1],
    )


def _blocks(cells: _Cells, pixels: int) -> Iterator[slice]:
    """Runs of cells, of `pixels` pixels each, that together have about BLOCK_PIXELS."""
    size = max(1, BLOCK_PIXELS // pixels)
    for start in range(0, len(cells.count), size):
        yield slice(start, start + size)


def _interpolate(
    logits: FloatArray,
    rows: CellAxis,
    columns: CellAxis,
    cells: _Cells,
    block: slice,
    mask: Image8,
    confidence: Image8 | None,
) -> None:
    """Write the pixels of a block of cells into `mask` and `confidence`.

    The cells are the last, contiguous axis, so that NumPy's loops run over all cells at one position inside a cell. The
    cells with a k-th candidate come first, so that each round works on a shorter prefix.
    """
    count, first = cells.count[block], cells.first[block]
    row, column, corners = cells.row[block], cells.column[block], cells.corners[:, block]
    down = np.ascontiguousarray(rows.weight[row].T)[:, None]  # (span_y, 1, n)
    right = np.ascontiguousarray(columns.weight[column].T)  # (span_x, n)
    shape = (len(down), len(right), len(count))
    prefixes = [int(np.count_nonzero(count > k)) for k in range(count[0])]
    # Only the confidence needs the values again, when the best is known.
    values: FloatArray = np.empty((1 if confidence is None else len(prefixes), *shape), np.float32)
    best: FloatArray = np.full(shape, -np.inf, np.float32)
    larger = np.empty(shape, np.uint8)
    winner = np.zeros(shape, np.uint8)
    for k, n in enumerate(prefixes):
        class_id = cells.candidates[first[:n] + k]
        corner = logits.ravel()[corners[:, :n] + class_id * logits[0].size]  # (4, n)
        upper = corner[0] + right[:, :n] * (corner[1] - corner[0])  # (span_x, n)
        lower = corner[2] + right[:, :n] * (corner[3] - corner[2])
        value = values[k % len(values), ..., :n]
        np.multiply(down[..., :n], lower - upper, out=value)
        value += upper
        np.greater(value, best[..., :n], out=larger[..., :n].view(bool))  # strictly: ties go to the lower id
        np.maximum(value, best[..., :n], out=best[..., :n])
        # Candidates rise, so the class in the lead is the largest one that ever took it: no slow masked copy is needed.
        larger[..., :n] *= class_id.astype(np.uint8)
        np.maximum(winner[..., :n], larger[..., :n], out=winner[..., :n])
    pixel = (rows.pixel[row].T * mask.shape[1])[:, None] + columns.pixel[column].T  # (span_y, span_x, n)
    mask.reshape(-1)[pixel] = winner
    if confidence is not None:
        total = np.zeros(shape, np.float32)
        for value, n in zip(values, prefixes, strict=True):
            relative = (value[..., :n] - best[..., :n]).reshape(-1, n)
            total[..., :n] += cv2.exp(relative).reshape(*shape[:2], n)  # twice as fast as NumPy's
        confidence.reshape(-1)[pixel] = np.rint(255 / total)
