from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.evaluation.boundary import boundary_f

Image = npt.NDArray[np.uint8]
CLASSES, IGNORED = 3, 255
DIAGONAL = float(np.hypot(60, 80))  # 100 pixels, so that a tolerance of 0.05 is 5 of them


def halves(border: int) -> Image:
    """60x80, class 0 on the left of the border and class 1 on its right."""
    ids = np.zeros((60, 80), np.uint8)
    ids[:, border:] = 1
    return ids


def score(prediction: Image, label: Image, tolerance: float = 0.05) -> npt.NDArray[np.float64]:
    return boundary_f(prediction, label, CLASSES, IGNORED, tolerance)


def test_a_mask_that_is_right_scores_one() -> None:
    np.testing.assert_array_equal(score(halves(40), halves(40)), [1, 1, np.nan])


@pytest.mark.parametrize(("shift", "expected"), [(4, 1.0), (5, 0.0)])
def test_a_border_counts_as_found_nearer_than_the_tolerance(shift: int, expected: float) -> None:
    assert score(halves(40 + shift), halves(40))[0] == expected


def test_a_class_that_was_not_found_scores_zero() -> None:
    np.testing.assert_array_equal(score(np.zeros((60, 80), np.uint8), halves(40)), [0, 0, np.nan])


def test_a_class_that_is_only_predicted_has_no_score() -> None:
    prediction = halves(40)
    prediction[10:20, 10:20] = 2

    assert np.isnan(score(prediction, halves(40))[2])


def test_f1_joins_precision_and_recall() -> None:
    """Class 0 has its true border of 60 pixels and, far from it, two more of as many."""
    prediction = halves(40)
    prediction[:, 10:12] = 2

    precision, recall = 60 / 180, 1.0
    assert score(prediction, halves(40))[0] == pytest.approx(2 * precision * recall / (precision + recall))


def test_unlabelled_pixels_make_no_border_and_hide_those_that_were_predicted() -> None:
    label = np.zeros((60, 80), np.uint8)
    label[:, 30:] = IGNORED

    assert np.isnan(score(halves(40), label)).all()


def test_undecided_pixels_border_on_their_neighbors() -> None:
    prediction = halves(40)
    prediction[:, 40:] = 255

    assert score(prediction, halves(40))[0] == 1.0
    assert score(prediction, halves(40))[1] == 0.0
