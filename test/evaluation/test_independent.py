"""Our scores are those of programs that others wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.labels import CITYSCAPES

Image = npt.NDArray[np.uint8]
CLASSES = len(CITYSCAPES)


def frames(count: int = 4) -> list[tuple[Image, Image]]:
    """Predictions and labels with every class, a fifth of the pixels wrong, some unlabelled."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        label = np.kron(rng.integers(0, CLASSES, (6, 10), np.uint8), np.ones((8, 8), np.uint8))
        label[0, :CLASSES] = np.arange(CLASSES)
        wrong = rng.random(label.shape) < 0.2
        prediction = np.where(wrong, rng.integers(0, CLASSES, label.shape, np.uint8), label)
        label[rng.random(label.shape) < 0.1] = CITYSCAPES.ignore_id
        pairs.append((prediction, label))
    return pairs


def counted(pairs: list[tuple[Image, Image]]) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES)
    for prediction, label in pairs:
        confusion.update(prediction, label)
    return confusion


def cityscapes_scores(pairs: list[tuple[Image, Image]], folder: Path) -> dict[str, Any]:
    """What Cityscapes' own evaluator says of the same masks, written as its files: ids of its 34 labels, as PNG."""
    evaluator = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="pip install --no-deps cityscapesscripts pyquaternion",
    )
    from cityscapesscripts.helpers.labels import trainId2label

    ids = np.zeros(256, np.uint8)  # 0: unlabeled
    for train_id, name in enumerate(CITYSCAPES.names):
        assert trainId2label[train_id].name.replace(" ", "_") == name
        ids[train_id] = trainId2label[train_id].id
    files: tuple[list[str], list[str]] = ([], [])
    for number, pair in enumerate(pairs):
        for image, kind, paths in zip(pair, ("prediction", "gtFine_labelIds"), files, strict=True):
            path = folder / f"town_{number:06}_000019_{kind}.png"
            cv2.imwrite(str(path), ids[image])
            paths.append(str(path))
    arguments = evaluator.args
    arguments.quiet, arguments.JSONOutput, arguments.evalInstLevelScore = True, False, False
    scores: dict[str, Any] = evaluator.evaluateImgLists(*files, arguments)
    return scores


def test_iou_and_its_mean_are_those_of_the_cityscapes_evaluator(tmp_path: Path) -> None:
    ours = counted(frames())

    theirs = cityscapes_scores(frames(), tmp_path)

    expected = [theirs["classScores"][name.replace("_", " ")] for name in CITYSCAPES.names]
    assert 0.5 < ours.miou() < 0.95
    np.testing.assert_allclose(ours.iou(), expected, rtol=1e-12)
    assert ours.miou() == pytest.approx(theirs["averageScoreClasses"], rel=1e-12)


def test_a_class_that_is_predicted_but_never_there_is_where_the_two_differ(tmp_path: Path) -> None:
    """One such pixel would take a twentieth of the mean of a short drive; see `PixelCounts.iou`."""
    prediction, label = np.full((8, 8), 0, np.uint8), np.full((8, 8), 0, np.uint8)
    prediction[0, 0] = 5

    assert counted([(prediction, label)]).miou() == pytest.approx(63 / 64)
    assert cityscapes_scores([(prediction, label)], tmp_path)["averageScoreClasses"] == pytest.approx(63 / 64 / 2)


def test_scores_are_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    options = {"num_classes": CLASSES, "ignore_index": CITYSCAPES.ignore_id}
    jaccard = {
        average: classification.MulticlassJaccardIndex(average=average, **options)
        for average in ("none", "macro", "weighted")
    }
    accuracy = classification.MulticlassAccuracy(average="micro", **options)
    for prediction, label in frames():
        for metric in (*jaccard.values(), accuracy):
            metric.update(torch.from_numpy(prediction).int(), torch.from_numpy(label).int())

    ours = counted(frames())

    np.testing.assert_allclose(ours.iou(), jaccard["none"].compute().numpy(), rtol=1e-6)
    assert ours.miou() == pytest.approx(float(jaccard["macro"].compute()), rel=1e-6)
    assert ours.counts().frequency_weighted_iou() == pytest.approx(float(jaccard["weighted"].compute()), rel=1e-6)
    assert ours.pixel_accuracy() == pytest.approx(float(accuracy.compute()), rel=1e-6)
