"""A rendered split on disk and the command that writes it."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.errors import UsageError
from eseg_ros.labels import CAMVID
from eseg_ros.rendering.command import add_arguments, run
from eseg_ros.rendering.dataset import render_split


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_split_holds_an_image_and_a_label_a_name(tmp_path: Path) -> None:
    render_split(tmp_path, "val", frames=3, seed=1, width=96, height=64, workers=1)
    images = sorted((tmp_path / "val" / "images").iterdir())
    labels = sorted((tmp_path / "val" / "labels").iterdir())
    assert [path.name for path in images] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert [path.name for path in labels] == ["000000.png", "000001.png", "000002.png"]
    for image_path, label_path in zip(images, labels, strict=True):
        assert cv2.imread(str(image_path)).shape == (64, 96, 3)
        label = cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
        assert label.shape == (64, 96)
        assert set(np.unique(label)) <= {*range(len(CAMVID)), CAMVID.ignore_id}


def test_more_workers_write_the_same_bytes(tmp_path: Path) -> None:
    render_split(tmp_path / "one", "train", frames=4, seed=1, width=64, height=48, workers=1)
    render_split(tmp_path / "two", "train", frames=4, seed=1, width=64, height=48, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_splits_of_one_seed_share_no_frame(tmp_path: Path) -> None:
    for split in ("train", "val"):
        render_split(tmp_path, split, frames=4, seed=1, width=64, height=48, workers=1)
    assert len(set(contents(tmp_path).values())) == 16


@pytest.mark.parametrize(("split", "frames"), [("train", 0), ("", 3)])
def test_a_split_without_frames_or_name_is_refused(tmp_path: Path, split: str, frames: int) -> None:
    with pytest.raises(ValueError, match="at least one frame and a name"):
        render_split(tmp_path, split, frames, seed=1)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_command_renders_a_split(tmp_path: Path) -> None:
    arguments = (str(tmp_path), "--split", "train", "--frames", "1", "--seed", "4", "--size", "64x48")
    assert run(parsed(*arguments, "--workers", "1")) == 0
    assert cv2.imread(str(tmp_path / "train" / "images" / "000000.jpg")).shape == (48, 64, 3)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at least one frame"):
        run(parsed(str(tmp_path), "--split", "train", "--frames", "0"))


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("root", "--split", "train", "--frames", "1", "--size", "big")
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
