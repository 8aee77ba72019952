"""How well the borders of a segmentation lie where they should."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.evaluation.metrics import Floats
from eseg_ros.runtime.types import Image8

TOLERANCE = 0.0075
"""How far a border may lie off, as a share of the image's diagonal: the value of Csurka et al. 2013."""

Booleans = npt.NDArray[np.bool_]


def boundary_f(
    prediction: Image8, label: Image8, num_classes: int, ignore_id: int, tolerance: float = TOLERANCE
) -> Floats:
    """Boundary F1 score of each class (Csurka, Larlus, Perronnin: "What is a good evaluation measure for semantic
    segmentation?", BMVC 2013).

    A pixel lies on the border of its class if one of its four neighbors is of another class. Precision is the share of
    the class's predicted border that lies nearer than the tolerance to its true one, recall the share of the true one
    that lies near the predicted one, F1 their harmonic mean. Unlabelled pixels make no border.

    Args:
        prediction: (H, W) class ids, 255 = undecided.
        label: (H, W) class ids and `ignore_id`.
        num_classes: C.
        ignore_id: label value of pixels that do not count.
        tolerance: share of the diagonal.

    Returns:
        (C,); NaN for a class without a true border in this frame.
    """
    labeled = label != ignore_id
    truth, predicted = _borders(label, labeled), _borders(prediction, labeled)
    distance = tolerance * float(np.hypot(*label.shape))
    scores = np.full(num_classes, np.nan)
    for class_id in np.unique(label[truth]).tolist():
        scores[class_id] = _f1(truth & (label == class_id), predicted & (prediction == class_id), distance)
    return scores


def _borders(ids: Image8, labeled: Booleans) -> Booleans:
    """Pixels with a neighbor of another class, both labelled. (H, W)."""
    borders = np.zeros(ids.shape, np.bool_)
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        differ = (ids[here] != ids[there]) & labeled[here] & labeled[there]
        borders[here] |= differ
        borders[there] |= differ
    return borders


def _f1(truth: Booleans, predicted: Booleans, distance: float) -> float:
    """F1 of two borders, the first of which has pixels."""
    if not predicted.any():
        return 0.0
    box = _bounding_box(truth | predicted)  # exact: no pixel of either lies outside
    truth, predicted = truth[box], predicted[box]
    precision = float((_distances_to(truth)[predicted] < distance).mean())
    recall = float((_distances_to(predicted)[truth] < distance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bounding_box(mask: Booleans) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _distances_to(mask: Booleans) -> npt.NDArray[np.float32]:
    """Each pixel's distance to the nearest one of the mask, pixels."""
    distances: npt.NDArray[np.float32] = cv2.distanceTransform(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distances
