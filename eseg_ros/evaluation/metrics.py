"""Scores of a segmentation, all from one confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from eseg_ros.labels import IGNORE_ID
from eseg_ros.runtime.postprocess import UNDECIDED_ID


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
        self.matrix: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)
        self.frames = 0

    def update(self, prediction: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> None:
        """Count one frame.

        Args:
            prediction: (H, W) class ids, 255 = undecided.
            label: (H, W) class ids and `ignore_id`.

        Raises:
            ValueError: the sizes differ, or an id is neither a class nor 255 / `ignore_id`; nothing was counted.
        """
        if prediction.shape != label.shape:
            raise ValueError(
                f"the prediction has {_size(prediction)} pixels, the label {_size(label)}; expected the same"
            )
        # One histogram over (label, prediction) byte pairs: no masking passes, and unknown ids show up in it.
        pairs = (label.astype(np.intp) << 8) | prediction
        joint = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        self._expect_known(joint.sum(axis=1), self.ignore_id, "label")
        self._expect_known(joint.sum(axis=0), UNDECIDED_ID, "prediction")
        self.matrix += joint[: self.num_classes, [*range(self.num_classes), UNDECIDED_ID]]
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

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union, TP / (TP + FP + FN), a class. (C,); NaN for a class without a true pixel.

        Like the Cityscapes evaluator, a class that never occurs has no score, even where it was predicted: those
        pixels already count as misses of the classes that were there.
        """
        hits = np.diagonal(self.matrix).astype(np.float64)
        truth = self.matrix.sum(axis=1)
        predicted = self.matrix[:, : self.num_classes].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(truth > 0, hits / (truth + predicted - hits), np.nan)

    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN before the first labelled pixel."""
        iou = self.iou()
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that were right; NaN before the first labelled pixel."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")

    def scores(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The scores as they stand in JSON files: miou, pixel_accuracy, per_class_iou and frames.

        A score that does not exist (a class that never occurs) is None.
        """
        return {
            "miou": _number(self.miou()),
            "pixel_accuracy": _number(self.pixel_accuracy()),
            "per_class_iou": {name: _number(iou) for name, iou in zip(names, self.iou(), strict=True)},
            "frames": self.frames,
        }

    def _expect_known(self, counts: npt.NDArray[np.int64], other_id: int, what: str) -> None:
        unknown = [int(i) for i in np.flatnonzero(counts) if i >= self.num_classes and i != other_id]
        if unknown:
            raise ValueError(
                f"the {what} has id {', '.join(map(str, unknown))} ({counts[unknown].sum()} pixels); "
                f"expected 0 to {self.num_classes - 1} or {other_id}"
            )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _size(image: npt.NDArray[np.uint8]) -> str:
    return "x".join(str(n) for n in reversed(image.shape))
