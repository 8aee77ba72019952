from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from eseg_ros.evaluation.pictures import WIDTH, WORST, PictureSelection, stored_pictures
from eseg_ros.evaluation.record import FrameScore
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.labels import CAMVID
from eseg_ros.runtime.types import Frame, Image8

FRAMES = 60


def view(index: int, mask: Image8, label: Image8 | None = None, confidence: Image8 | None = None) -> FrameView:
    height, width = mask.shape
    frame = Frame(memoryview(bytes(3 * mask.size)), "bgr8", width, height, 3 * width, index)
    return FrameView(str(index), index, frame, mask, label, "", confidence)


def selected(folder: Path, quality: list[float], spread: int) -> dict[int, dict[str, Path]]:
    selection = PictureSelection(CAMVID, len(quality), spread)
    for index, share in enumerate(quality):
        selection.add(
            view(index, np.zeros((6, 8), np.uint8)), FrameScore(str(index), index, index, answered=True, temporal=share)
        )
    selection.write(folder)
    return stored_pictures(folder)


def test_frames_spread_over_the_sequence_and_the_worst_get_a_picture(tmp_path: Path) -> None:
    quality = [1.0] * FRAMES
    worst = list(range(20, 20 + WORST))
    for index in worst:
        quality[index] = 0.5

    assert set(selected(tmp_path, quality, spread=3)) == {0, 30, 59, *worst}


def test_a_frame_that_is_not_among_the_worst_any_more_loses_its_picture(tmp_path: Path) -> None:
    falling = [1 - index / 100 for index in range(FRAMES)]

    assert set(selected(tmp_path, falling, spread=2)) == {0, *range(FRAMES - WORST, FRAMES)}


def test_frames_without_a_quality_are_only_spread(tmp_path: Path) -> None:
    assert set(selected(tmp_path, [float("nan")] * FRAMES, spread=2)) == {0, 59}


def test_no_pictures_means_none(tmp_path: Path) -> None:
    assert selected(tmp_path, [0.0] * FRAMES, spread=0) == {}


def test_the_layers_show_truth_prediction_errors_and_confidence(tmp_path: Path) -> None:
    mask, label = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 3
    label[:, 6:] = CAMVID.ignore_id
    selection = PictureSelection(CAMVID, 1, 1)

    selection.add(
        view(0, mask, label, np.full((6, 8), 255, np.uint8)), FrameScore("0", 0, 0, answered=True, temporal=1.0)
    )
    selection.write(tmp_path)

    layers = {name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for name, path in stored_pictures(tmp_path)[0].items()}
    assert layers.keys() == {"camera", "truth", "prediction", "error", "confidence"}
    assert layers["prediction"][0, 5].tolist() == [*CAMVID.palette[3][::-1], 255]
    assert layers["truth"][0, 7, 3] == 0
    assert [layers["error"][0, column, 3] > 0 for column in (1, 5, 7)] == [False, True, True]
    red, gray = layers["error"][0, 5, :3], layers["error"][0, 7, :3]
    assert red[2] > 2 * red[0]
    assert len(set(gray.tolist())) == 1


def test_large_frames_are_shown_smaller(tmp_path: Path) -> None:
    selection = PictureSelection(CAMVID, 1, 1)

    selection.add(view(0, np.zeros((300, 2 * WIDTH), np.uint8)), FrameScore("0", 0, 0, answered=True))
    selection.write(tmp_path)

    camera = cv2.imread(str(stored_pictures(tmp_path)[0]["camera"]))
    assert camera.shape == (150, WIDTH, 3)
