from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.engine.manifest import load_engine
from eseg_ros.evaluation import command
from eseg_ros.evaluation.dataset import DatasetError, list_samples, read_frame, read_label
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.offline import evaluate, record_scores
from eseg_ros.labels import CAMVID
from eseg_ros.runtime.image import decode

Image = npt.NDArray[np.uint8]


def painted(seed: int) -> tuple[Image, Image]:
    """A 192x128 picture of noisy 32-pixel blocks in CamVid's colours, and what is on it.

    The tiny engine reads it back but for the blocks' edges; the noise keeps classes from being equally likely there.
    """
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, len(CAMVID), (4, 6), np.uint8), np.ones((32, 32), np.uint8))
    image = CAMVID.color_table()[label][..., ::-1] + rng.normal(0, 8, (128, 192, 3))
    return image.clip(0, 255).astype(np.uint8), label


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Three painted frames; a strip of the labels is wrong and another one unlabelled, so that scores are not 100 %."""
    for folder in ("images", "labels"):
        (tmp_path / "data/val" / folder).mkdir(parents=True)
    for seed in range(3):
        image, label = painted(seed)
        label[:, :8] = (label[:, :8] + 1) % len(CAMVID)
        label[:, 100:108] = CAMVID.ignore_id
        cv2.imwrite(str(tmp_path / f"data/val/images/{seed}.png"), image)
        cv2.imwrite(str(tmp_path / f"data/val/labels/{seed}.png"), label)
    return tmp_path / "data"


def test_frames_come_in_the_order_in_which_they_were_driven(camvid: Path) -> None:
    assert [sample.name for sample in list_samples(camvid, "val")] == ["0", "1", "2"]


def test_an_image_becomes_a_camera_frame_of_its_own_pixels(camvid: Path) -> None:
    np.testing.assert_array_equal(decode(read_frame(camvid / "val/images/1.png")), painted(1)[0])


def upsampled_argmax(engine: Path, image: Image) -> Image:
    """The mask by the book: PyTorch's bilinear upsampling of ONNX Runtime's logits, then argmax."""
    import onnxruntime
    import torch

    manifest = load_engine(engine).manifest
    resized = cv2.resize(image, (manifest.input.width, manifest.input.height))[..., ::-1]
    tensor = ((resized / 255 - manifest.input.mean) / manifest.input.std).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(load_engine(engine).onnx)
    logits = torch.from_numpy(session.run(None, {"image": tensor.astype(np.float32)})[0])
    scores = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
    return scores.argmax(1)[0].numpy().astype(np.uint8)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_scores_are_those_of_a_direct_computation(tiny_engine: Path, camvid: Path, runtime: str) -> None:
    report = evaluate(tiny_engine, camvid, "val", runtime)
    direct = ConfusionMatrix(len(CAMVID))
    for sample in list_samples(camvid, "val"):
        direct.update(upsampled_argmax(tiny_engine, decode(read_frame(sample.image))), read_label(sample.label))
    expected = direct.scores(CAMVID.names)
    assert report["frames"] == 3
    assert 0.5 < report["miou"] < 0.99
    assert report["miou"] == pytest.approx(expected["miou"], abs=1e-4)
    assert report["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], abs=1e-4)
    assert report["per_class_iou"] == pytest.approx(expected["per_class_iou"], abs=1e-4)


def test_the_report_says_what_was_measured_and_how_to_repeat_it(tiny_engine: Path, camvid: Path) -> None:
    report = evaluate(tiny_engine, camvid, "val")
    assert report["engine"] == "tiny"
    assert report["data"] == "data/val"
    assert report["runtime"] == "openvino"
    assert report["command"] == (f"eseg evaluate --engine {tiny_engine} --data {camvid} --split val --runtime openvino")


def test_recorded_scores_travel_in_the_manifest_beside_those_of_other_data(
    make_tiny_engine: Callable[..., Path], camvid: Path
) -> None:
    engine = make_tiny_engine()
    report = evaluate(engine, camvid, "val")
    record_scores(engine, {**report, "data": "other/test"})
    record_scores(engine, report)
    scores = load_engine(engine).manifest.scores
    assert scores["data/val"]["miou"] == report["miou"]
    assert scores["data/val"]["command"] == (
        "eseg evaluate --engine tiny.json --data data --split val --runtime openvino"
    )
    assert scores.keys() == {"other/test", "data/val"}


def test_the_command_prints_a_line_a_class_and_writes_the_scores(
    tiny_engine: Path, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "new/scores.json"
    arguments = ["--engine", str(tiny_engine), "--data", str(camvid), "--json", str(out)]
    assert command.run(parser.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    scores = json.loads(out.read_text())
    assert scores["frames"] == 3
    assert re.search(rf"mIoU +{100 * scores['miou']:.1f} ", printed)
    assert all(name in printed for name in CAMVID.names)


def test_a_split_without_frames_says_what_there_is(camvid: Path) -> None:
    with pytest.raises(DatasetError, match=r"test/images holds no \.jpg or \.png frames.*there is: val"):
        list_samples(camvid, "test")


def test_a_missing_label_is_named(camvid: Path) -> None:
    (camvid / "val/labels/1.png").unlink()
    with pytest.raises(DatasetError, match=r"labels/1\.png is missing \(1 of 3"):
        list_samples(camvid, "val")


def test_a_broken_image_is_named(tiny_engine: Path, camvid: Path) -> None:
    (camvid / "val/images/1.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"images/1\.png is not a readable image"):
        evaluate(tiny_engine, camvid, "val")


def test_a_broken_label_is_named(tiny_engine: Path, camvid: Path) -> None:
    (camvid / "val/labels/2.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"labels/2\.png is not a readable image"):
        evaluate(tiny_engine, camvid, "val")


@pytest.mark.parametrize("label", [np.zeros((128, 192, 3), np.uint8), np.zeros((128, 192), np.uint16)])
def test_a_label_that_is_no_map_of_bytes_is_named(tmp_path: Path, label: npt.NDArray[np.generic]) -> None:
    path = tmp_path / "label.png"
    cv2.imwrite(str(path), label)
    with pytest.raises(DatasetError, match=r"label\.png has shape .* expected an 8-bit PNG of class ids"):
        read_label(path)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((64, 96), np.uint8), r"labels/0\.png: the prediction has 192x128 pixels, the label 96x64"),
        (np.full((128, 192), 11, np.uint8), r"labels/0\.png: the label has id 11"),
    ],
)
def test_a_label_that_does_not_fit_its_frame_or_the_engine_is_named(
    tiny_engine: Path, camvid: Path, label: Image, message: str
) -> None:
    cv2.imwrite(str(camvid / "val/labels/0.png"), label)
    with pytest.raises(DatasetError, match=message):
        evaluate(tiny_engine, camvid, "val")
