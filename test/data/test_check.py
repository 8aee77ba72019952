from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.data import check_command
from eseg_ros.data.check import check_dataset
from eseg_ros.data.layouts import LAYOUTS
from eseg_ros.data.reading import DataError
from eseg_ros.labels import CAMVID

FOLDER = LAYOUTS["folder"]


@pytest.fixture
def broken(dataset: Path, tmp_path: Path) -> Path:
    """The data set with one file of each kind of trouble in its train split."""
    root = tmp_path / "broken"
    shutil.copytree(dataset, root)
    images, labels = root / "train" / "images", root / "train" / "labels"
    (labels / "000.png").unlink()
    (images / "001.png").unlink()
    (images / "002.png").write_bytes((images / "002.png").read_bytes()[:40])
    cv2.imwrite(str(labels / "003.png"), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(labels / "004.png"), np.full((64, 96), 42, np.uint8))
    (labels / "005.png").write_bytes(b"")
    return root


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check_command.add_arguments(parser)
    return check_command.run(parser.parse_args(arguments))


def test_a_good_data_set_has_no_problems_and_its_pixels_are_counted(dataset: Path) -> None:
    train, val = check_dataset(dataset, CAMVID, FOLDER)
    assert (train.split, train.frames, val.split, val.frames) == ("train", 12, "val", 3)
    assert train.problems == val.problems == ()
    assert train.sizes == {(96, 64): 12}
    assert train.histogram.sum() == 12 * 96 * 64
    assert train.histogram[4:].sum() == 0


def test_every_bad_file_is_named_with_what_is_wrong(broken: Path) -> None:
    train, _ = check_dataset(broken, CAMVID, FOLDER)
    expected = {
        "images/000.png": "no label",
        "labels/001.png": "no frame",
        "images/002.png": "not a readable image",
        "labels/003.png": "10, 10",
        "labels/004.png": "ids [42]",
        "labels/005.png": "not a readable image",
    }
    assert len(train.problems) == len(expected)
    for file, what in expected.items():
        assert any(file in problem and what in problem for problem in train.problems), (file, train.problems)


def test_the_command_succeeds_on_a_good_data_set(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(dataset)) == 0
    assert "12 of 96x64; 0 problems" in capsys.readouterr().out


def test_the_command_fails_with_the_list_on_a_broken_one(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(broken)) == 1
    assert capsys.readouterr().err.count("bad: ") == 6


def test_ids_are_judged_by_the_class_set_that_is_asked_for(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "city"
    shutil.copytree(dataset, root)
    cv2.imwrite(str(root / "train" / "labels" / "000.png"), np.full((64, 96), 18, np.uint8))
    assert run(str(root), "--classes", "cityscapes") == 0
    assert run(str(root), "--classes", "camvid") == 1


def test_a_folder_without_splits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set of layout folder"):
        check_dataset(tmp_path, CAMVID, FOLDER)


def test_the_report_shows_every_class_and_sample_frames(dataset: Path, tmp_path: Path) -> None:
    report = tmp_path / "deep" / "report.html"
    assert run(str(dataset), "--report", str(report)) == 0
    page = report.read_text()
    assert all(page.count(f"<td>{name}</td>") == 2 for name in CAMVID.names)  # train and val
    assert page.count("data:image/jpeg;base64,") == 6 + 3


def test_the_report_of_a_broken_data_set_names_the_bad_files(broken: Path, tmp_path: Path) -> None:
    assert run(str(broken), "--report", str(tmp_path / "report.html")) == 1
    assert (tmp_path / "report.html").read_text().count("class='bad'") == 6


def test_a_label_without_any_class_is_a_problem(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "empty"
    shutil.copytree(dataset, root)
    cv2.imwrite(str(root / "val" / "labels" / "001.png"), np.full((64, 96), 255, np.uint8))
    assert run(str(root)) == 1
