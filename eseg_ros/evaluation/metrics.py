"""Scores of a segmentation, all from one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eseg_ros.labels import IGNORE_ID
from eseg_ros.runtime.postprocess import UNDECIDED_ID

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """All of a confusion matrix that the scores need, a class each; any leading axes (frames, replicates) stay.

    Attributes:
        hits: (..., C) pixels of the class that were predicted as it.
        truth: (..., C) pixels of the class.
        predicted: (..., C) labelled pixels that were predicted as the class.
    """

    hits: Floats
    truth: Floats
    predicted: Floats

    @staticmethod
    def of(matrix: npt.NDArray[np.integer[Any]]) -> PixelCounts:
        """Of confusion matrices, (..., C, C + 1)."""
        classes = matrix.shape[-2]
        return PixelCounts(
            hits=np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64),
            truth=matrix.sum(axis=-1, dtype=np.float64),
            predicted=matrix[..., :classes].sum(axis=-2, dtype=np.float64),
        )

    def iou(self) -> Floats:
        """Intersection over union, TP / (TP + FP + FN), a class. (..., C); NaN for a class without a true pixel.

        A class that never occurs has no score, even where it was predicted: those pixels already count as misses of
        the classes that were there, and a score of 0 for it would let one pixel decide the mean of a short drive. The
        Cityscapes evaluator gives such a class 0; where every predicted class occurs, the two are equal.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.truth > 0, self.hits / (self.truth + self.predicted - self.hits), np.nan)

    def miou(self) -> Floats:
        """Mean of `iou` over the classes that occur. (...); NaN where no pixel is labelled."""
        return mean_known(self.iou())

    def pixel_accuracy(self) -> Floats:
        """Share of the labelled pixels that were right. (...); NaN where no pixel is labelled."""
        return _ratio(self.hits.sum(-1), self.truth.sum(-1))

    def frequency_weighted_iou(self) -> Floats:
        """Mean of `iou`, each class weighted by its share of the labelled pixels (Long et al. 2015). (...); or NaN."""
        return _ratio((np.nan_to_num(self.iou()) * self.truth).sum(-1), self.truth.sum(-1))


def mean_known(values: Floats, axis: int = -1) -> Floats:
    """Mean over an axis of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis), known.sum(axis))


def count_pixels(
    prediction: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], num_classes: int, ignore_id: int = IGNORE_ID
) -> Integers:
    """One frame's confusion matrix, (C, C + 1); see `ConfusionMatrix`.

    Args:
        prediction: (H, W) class ids, 255 = undecided.
        label: (H, W) class ids and `ignore_id`.
        num_classes: C.
        ignore_id: label value of pixels that do not count.

    Raises:
        ValueError: the sizes differ, or an id is neither a class nor 255 / `ignore_id`.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"the prediction has {_size(prediction)} pixels, the label {_size(label)}; expected the same")
    # One histogram over (label, prediction) byte pairs: no masking passes, and unknown ids show up in it.
    pairs = (label.astype(np.intp) << 8) | prediction
    joint: Integers = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    _expect_known(joint.sum(axis=1), num_classes, ignore_id, "label")
    _expect_known(joint.sum(axis=0), num_classes, UNDECIDED_ID, "prediction")
    return joint[:num_classes, [*range(num_classes), UNDECIDED_ID]]


class ConfusionMatrix:
    """Pixel counts by true and predicted class, over any number of frames.

    Pixels whose label is `ignore_id` do not count, whatever was predicted there. A prediction of 255 (below the
    confidence threshold) on a labelled pixel is wrong: a miss for the true class, a false positive for none.

    Attributes:
        matrix: (C, C + 1) int64; rows = truth, columns = prediction, the last column = undecided.
        frames: how many frames were counted.
    """

    def __init__(self, num_classes: int, ignore_id: int = IGNORE_ID) -> None:
        self.num_classes = num_classes
        self.ignore_id = ignore_id
        self.matrix: Integers = np.zeros((num_classes, num_classes + 1), np.int64)
        self.frames = 0

    def update(self, prediction: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> None:
        """Count one frame.

        Args:
            prediction: (H, W) class ids, 255 = undecided.
            label: (H, W) class ids and `ignore_id`.

        Raises:
            ValueError: the sizes differ, or an id is neither a class nor 255 / `ignore_id`; nothing was counted.
        """
        self.matrix += count_pixels(prediction, label, self.num_classes, self.ignore_id)
        self.frames += 1

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of `other`, e.g. another process's share of the frames.

        Raises:
            ValueError: the other matrix is of another class set.
        """
        if (other.num_classes, other.ignore_id) != (self.num_classes, self.ignore_id):
            raise ValueError(
                f"cannot merge counts of {other.num_classes} classes (ignored: {other.ignore_id}) into counts of "
                f"{self.num_classes} (ignored: {self.ignore_id}); both must be of one class set"
            )
        self.matrix += other.matrix
        self.frames += other.frames

    def counts(self) -> PixelCounts:
        """What the scores are computed from."""
        return PixelCounts.of(self.matrix)

    def iou(self) -> Floats:
        """`PixelCounts.iou`, (C,)."""
        return self.counts().iou()

    def miou(self) -> float:
        """`PixelCounts.miou`."""
        return float(self.counts().miou())

    def pixel_accuracy(self) -> float:
        """`PixelCounts.pixel_accuracy`."""
        return float(self.counts().pixel_accuracy())

    def scores(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The scores as they stand in JSON files: miou, pixel_accuracy, per_class_iou and frames.

        A score that does not exist (a class that never occurs) is None.
        """
        return {
            "miou": number(self.miou()),
            "pixel_accuracy": number(self.pixel_accuracy()),
            "per_class_iou": {name: number(iou) for name, iou in zip(names, self.iou(), strict=True)},
            "frames": self.frames,
        }


def number(value: float) -> float | None:
    """A score as it stands in JSON files: six digits, None if it does not exist."""
    return None if np.isnan(value) else round(float(value), 6)


def _ratio(part: Floats, whole: npt.NDArray[Any]) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = np.where(whole > 0, part / whole, np.nan)
    return ratio


def _expect_known(counts: Integers, num_classes: int, other_id: int, what: str) -> None:
    unknown = [int(i) for i in np.flatnonzero(counts) if i >= num_classes and i != other_id]
    if unknown:
        raise ValueError(
            f"the {what} has id {', '.join(map(str, unknown))} ({counts[unknown].sum()} pixels); "
            f"expected 0 to {num_classes - 1} or {other_id}"
        )


def _size(image: npt.NDArray[np.uint8]) -> str:
    return "x".join(str(n) for n in reversed(image.shape))
