from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eseg_ros.evaluation.metrics import ConfusionMatrix


def ids(rows: list[list[int]]) -> npt.NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(prediction=ids([[1, 1, 0]]), label=ids([[0, 0, 1]]))
    assert confusion.matrix.tolist() == [[0, 2, 0], [1, 0, 0]]


def test_iou_is_intersection_over_union() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(prediction=ids([[0, 0, 1, 1]]), label=ids([[0, 1, 1, 1]]))
    assert confusion.iou() == pytest.approx([1 / 2, 2 / 3])
    assert confusion.miou() == pytest.approx(7 / 12)
    assert confusion.pixel_accuracy() == pytest.approx(3 / 4)


def test_ignored_pixels_do_not_count_whatever_was_predicted_there() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(prediction=ids([[0, 1, 255, 1]]), label=ids([[255, 255, 255, 1]]))
    assert confusion.matrix.sum() == 1
    assert confusion.pixel_accuracy() == 1.0


def test_an_ignored_id_other_than_255_is_respected() -> None:
    confusion = ConfusionMatrix(2, ignore_id=2)
    confusion.update(prediction=ids([[0, 1]]), label=ids([[2, 1]]))
    assert confusion.matrix.sum() == 1


def test_an_undecided_pixel_is_a_miss_for_the_true_class_and_a_false_positive_for_none() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(prediction=ids([[0, 255, 1]]), label=ids([[0, 0, 1]]))
    assert confusion.iou() == pytest.approx([1 / 2, 1])
    assert confusion.pixel_accuracy() == pytest.approx(2 / 3)


def test_a_class_that_never_occurs_is_left_out_of_the_mean_even_where_it_was_predicted() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(prediction=ids([[0, 2, 1, 1]]), label=ids([[0, 0, 1, 1]]))
    assert np.isnan(confusion.iou()[2])
    assert confusion.miou() == pytest.approx((1 / 2 + 1) / 2)
    assert confusion.scores(("road", "car", "sky"))["per_class_iou"]["sky"] is None


def test_a_class_that_occurs_and_is_never_predicted_counts_as_zero() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(prediction=ids([[0, 0]]), label=ids([[0, 1]]))
    assert confusion.iou() == pytest.approx([1 / 2, 0])


def test_scores_before_any_labelled_pixel_are_none_not_numbers() -> None:
    scores = ConfusionMatrix(2).scores(("road", "car"))
    assert scores == {
        "miou": None,
        "pixel_accuracy": None,
        "per_class_iou": {"road": None, "car": None},
        "frames": 0,
    }


def test_merging_equals_counting_in_one_go() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 4, (6, 2, 5, 7), np.uint8)
    whole, first, second = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    for index, (prediction, label) in enumerate(frames):
        whole.update(prediction, label)
        (first if index % 2 else second).update(prediction, label)
    first.merge(second)
    assert first.matrix.tolist() == whole.matrix.tolist()
    assert first.frames == whole.frames == 6


def test_counts_of_another_class_set_are_not_merged() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        ConfusionMatrix(2).merge(ConfusionMatrix(3))


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="3x2 pixels, the label 2x2"):
        ConfusionMatrix(2).update(np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8))


def test_an_unknown_id_is_refused_and_nothing_is_counted() -> None:
    confusion = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=r"label has id 7 \(1 pixels\); expected 0 to 1 or 255"):
        confusion.update(prediction=ids([[0, 0]]), label=ids([[0, 7]]))
    with pytest.raises(ValueError, match="prediction has id 2"):
        confusion.update(prediction=ids([[0, 2]]), label=ids([[0, 1]]))
    assert confusion.matrix.sum() == 0
    assert confusion.frames == 0


maps = hnp.arrays(np.uint8, (4, 9), elements=st.sampled_from([0, 1, 2, 255]))


@given(prediction=maps, label=maps)
def test_scores_agree_with_a_pixel_by_pixel_count(
    prediction: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]
) -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(prediction, label)
    pairs = [(int(t), int(p)) for t, p in zip(label.flat, prediction.flat, strict=True) if t != 255]
    for c, iou in enumerate(confusion.iou()):
        if not any(t == c for t, _ in pairs):
            assert np.isnan(iou)
            continue
        hits = sum(t == p == c for t, p in pairs)
        union = sum(c in (t, p) for t, p in pairs)
        assert iou == pytest.approx(hits / union)
    if pairs:
        assert confusion.pixel_accuracy() == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
