from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import DataError
from eseg_ros.labels import CAMVID
from eseg_ros.training import pseudo_label_command
from eseg_ros.training.config import config_from_dict
from eseg_ros.training.data import SegmentationFolder
from eseg_ros.training.pseudo_labels import PseudoLabelOptions, make_pseudo_labels
from eseg_ros.training.teacher import load_teacher

PLAIN = PseudoLabelOptions(scales=(1.0,), flip=False, threshold=0.0)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        picture = np.kron(rng.integers(0, 255, (4, 6, 3), np.uint8), np.ones((32, 32, 1), np.uint8))
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def test_the_labels_are_the_teachers_answers(lite_checkpoint: Path, frames: Path, tmp_path: Path) -> None:
    make_pseudo_labels(lite_checkpoint, frames, tmp_path / "out", "pseudo", PLAIN)
    teacher = load_teacher(lite_checkpoint)
    image = cv2.cvtColor(read(frames / "1.png"), cv2.COLOR_BGR2RGB)
    seen = cv2.resize(image, (96, 64), interpolation=cv2.INTER_AREA)  # the size it was trained for
    batch = (torch.from_numpy(seen).permute(2, 0, 1)[None].float() - teacher.mean) / teacher.std
    scores = torch.nn.functional.interpolate(teacher.network(batch), (128, 192), mode="bilinear")
    expected = scores.argmax(1)[0].numpy()
    assert (read(tmp_path / "out/pseudo/labels/1.png") == expected).mean() > 0.999
    confidence = read(tmp_path / "out/pseudo/confidence/1.png")
    np.testing.assert_allclose(confidence, 255 * scores.softmax(1)[0].amax(0).numpy(), atol=1)


def test_an_engine_teaches_what_its_checkpoint_does(lite_checkpoint: Path, lite_engine: Path, frames: Path) -> None:
    image = cv2.cvtColor(read(frames / "0.png"), cv2.COLOR_BGR2RGB)
    teachers = [load_teacher(path) for path in (lite_checkpoint, lite_engine)]
    one, other = (teacher.probabilities(image, (0.5, 1.0), flip=True) for teacher in teachers)
    np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(one.sum(axis=0), 1.0, atol=1e-5)


def test_a_mirrored_frame_gets_the_mirrored_label(lite_checkpoint: Path, frames: Path) -> None:
    teacher = load_teacher(lite_checkpoint)
    image = cv2.cvtColor(read(frames / "0.png"), cv2.COLOR_BGR2RGB)
    there, back = (teacher.probabilities(i, (1.0,), flip=True) for i in (image, np.ascontiguousarray(image[:, ::-1])))
    np.testing.assert_allclose(there, back[..., ::-1], atol=1e-4)


def test_unsure_pixels_are_ignored(lite_checkpoint: Path, frames: Path, tmp_path: Path) -> None:
    make_pseudo_labels(lite_checkpoint, frames, tmp_path, "plain", PLAIN)
    count = make_pseudo_labels(
        lite_checkpoint, frames, tmp_path, "sure", PseudoLabelOptions(scales=(1.0,), flip=False, threshold=0.6)
    )
    plain, sure = (read(tmp_path / split / "labels/2.png") for split in ("plain", "sure"))
    confidence = read(tmp_path / "sure/confidence/2.png")
    assert 0 < count.ignored < 1
    assert (sure[confidence < 255 * 0.6 - 1] == CAMVID.ignore_id).all()
    certain = confidence > 255 * 0.6 + 1
    np.testing.assert_array_equal(sure[certain], plain[certain])


def test_a_run_that_was_stopped_goes_on_where_it_was(lite_checkpoint: Path, frames: Path, tmp_path: Path) -> None:
    make_pseudo_labels(lite_checkpoint, frames, tmp_path, "pseudo", PLAIN)
    (tmp_path / "pseudo/labels/1.png").unlink()
    kept = (tmp_path / "pseudo/labels/0.png").stat().st_mtime_ns
    count = make_pseudo_labels(lite_checkpoint, frames, tmp_path, "pseudo", PLAIN)
    assert (count.labeled, count.kept) == (1, 2)
    assert (tmp_path / "pseudo/labels/0.png").stat().st_mtime_ns == kept


def test_labels_of_different_teachers_or_options_are_not_mixed(
    lite_checkpoint: Path, frames: Path, tmp_path: Path
) -> None:
    make_pseudo_labels(lite_checkpoint, frames, tmp_path, "pseudo", PLAIN)
    with pytest.raises(DataError, match="another threshold"):
        make_pseudo_labels(lite_checkpoint, frames, tmp_path, "pseudo", PseudoLabelOptions((1.0,), False, 0.7))


def test_the_trainer_reads_them_beside_real_labels(
    lite_checkpoint: Path, frames: Path, dataset: Path, recipe: dict[str, object], tmp_path: Path
) -> None:
    make_pseudo_labels(lite_checkpoint, frames, tmp_path / "out", "pseudo", PLAIN)
    assert len(SegmentationFolder(tmp_path / "out", "pseudo", CAMVID, cache=True)) == 3
    recipe["data"] = {
        "root": str(dataset),
        "train": [{"split": "train"}, {"root": str(tmp_path / "out"), "split": "pseudo"}],
    }
    assert len(config_from_dict(recipe).data.train) == 2
    assert [sample.name for sample in list_samples(tmp_path / "out", "pseudo", find_layout(tmp_path / "out"))] == [
        "0",
        "1",
        "2",
    ]


def test_every_nth_frame_of_a_video_is_labeled(lite_engine: Path, frames: Path, tmp_path: Path) -> None:
    video = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for index in range(7):
        writer.write(np.full((64, 96, 3), 30 * index, np.uint8))
    writer.release()
    parser = argparse.ArgumentParser()
    pseudo_label_command.add_arguments(parser)
    arguments = [str(lite_engine), str(video), str(tmp_path / "out"), "--every", "3", "--scales", "1", "--no-flip"]
    assert pseudo_label_command.run(parser.parse_args(arguments)) == 0
    names = sorted(path.stem for path in (tmp_path / "out/pseudo/labels").iterdir())
    assert names == ["drive_000000", "drive_000003", "drive_000006"]
    assert json.loads((tmp_path / "out/pseudo/pseudo_labels.json").read_text())["every"] == 3


def test_what_is_no_folder_and_no_video_is_an_error(lite_engine: Path, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("none")
    for source, message in (
        ("empty", "no frames"),
        ("notes.txt", "expected a folder"),
        ("nowhere", "expected a folder"),
    ):
        with pytest.raises(DataError, match=message):
            make_pseudo_labels(lite_engine, tmp_path / source, tmp_path / "out", "pseudo", PLAIN)
    with pytest.raises(DataError, match="no such teacher"):
        make_pseudo_labels(tmp_path / "none.ckpt", frames, tmp_path / "out", "pseudo", PLAIN)


def test_a_frame_of_a_video_that_cannot_be_decoded_is_named(
    lite_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Damaged:
        """A video of three frames, none of which can be decoded."""

        def __init__(self, _path: str) -> None: ...

        def get(self, _property: int) -> float:
            return 3.0

        def grab(self) -> bool:
            return True

        def retrieve(self) -> tuple[bool, None]:
            return False, None

        def release(self) -> None: ...

    video = tmp_path / "drive.mp4"
    video.touch()
    monkeypatch.setattr(cv2, "VideoCapture", Damaged)
    with pytest.raises(DataError, match=r"drive.mp4: frame 0 cannot be decoded"):
        make_pseudo_labels(lite_checkpoint, video, tmp_path / "out", "pseudo", PLAIN)
