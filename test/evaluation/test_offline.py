from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.data.layouts import CAMVID_GROUPS, CAMVID_ORIGINAL
from eseg_ros.data.reading import ANY_IDS, DataError, read_label
from eseg_ros.engine.manifest import load_engine, write_manifest
from eseg_ros.errors import EngineError
from eseg_ros.evaluation import command
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.offline import evaluate, record_scores
from eseg_ros.labels import CAMVID

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
    for seed in range(3):
        label = read_label(camvid / f"val/labels/{seed}.png", ANY_IDS)
        direct.update(upsampled_argmax(tiny_engine, painted(seed)[0]), label)
    expected = direct.scores(CAMVID.names)
    assert report["frames"] == 3
    assert 0.5 < report["miou"] < 0.99
    assert report["miou"] == pytest.approx(expected["miou"], abs=1e-4)
    assert report["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], abs=1e-4)
    assert report["per_class_iou"] == pytest.approx(expected["per_class_iou"], abs=1e-4)


def test_labels_in_the_original_colors_of_the_data_set_score_as_ids_do(
    tiny_engine: Path, camvid: Path, tmp_path: Path
) -> None:
    colors = np.zeros((256, 3), np.uint8)  # of the ignored id: Void
    for class_id, name in enumerate(CAMVID.names):
        colors[class_id] = CAMVID_ORIGINAL[CAMVID_GROUPS[name][-1]]
    original = tmp_path / "original"
    shutil.copytree(camvid / "val/images", original / "val")
    (original / "val_labels").mkdir()
    for path in (camvid / "val/labels").glob("*.png"):
        labels = colors[read_label(path, ANY_IDS)]
        cv2.imwrite(str(original / "val_labels" / f"{path.stem}_L.png"), labels[..., ::-1])

    by_colors, by_ids = (evaluate(tiny_engine, root, "val") for root in (original, camvid))

    assert by_colors["per_class_iou"] == by_ids["per_class_iou"]


def test_a_data_set_that_does_not_give_the_engines_classes_is_refused(tiny_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit").mkdir()
    with pytest.raises(DataError, match=r"Cityscapes gives the classes of 'cityscapes'; those of 'camvid'"):
        evaluate(tiny_engine, tmp_path, "val")


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


def test_a_score_on_frames_that_were_learnt_is_not_recorded(
    make_tiny_engine: Callable[..., Path], camvid: Path
) -> None:
    engine = make_tiny_engine()
    manifest = load_engine(engine).manifest
    report = evaluate(engine, camvid, "val")
    for root, source in ((str(camvid), None), ("elsewhere", str(camvid))):
        data = {"root": root, "train": [{"root": source, "split": "train"}, {"root": source, "split": "val"}]}
        write_manifest(replace(manifest, training={"recipe": {"data": data}}), engine.parent)
        with pytest.raises(EngineError, match="tiny was trained on data/val"):
            record_scores(engine, report)
        assert load_engine(engine).manifest.scores == {}


def test_the_command_says_so_before_it_evaluates(
    make_tiny_engine: Callable[..., Path], camvid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_tiny_engine()
    data = {"root": str(camvid), "train": [{"root": None, "split": "val"}]}
    write_manifest(replace(load_engine(engine).manifest, training={"recipe": {"data": data}}), engine.parent)
    monkeypatch.setattr("eseg_ros.evaluation.offline.evaluate", lambda *_: pytest.fail("evaluated"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(EngineError, match="was trained on data/val"):
        command.run(parser.parse_args(["--engine", str(engine), "--data", str(camvid), "--write-manifest"]))


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


def test_a_split_without_frames_says_what_there_is(tiny_engine: Path, camvid: Path) -> None:
    with pytest.raises(DataError, match=r"split 'test' holds no frames \(\.jpg or \.png\).*Splits here: val"):
        evaluate(tiny_engine, camvid, "test")


def test_a_missing_label_is_named(tiny_engine: Path, camvid: Path) -> None:
    (camvid / "val/labels/1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 frames .* no label.*labels/1\.png"):
        evaluate(tiny_engine, camvid, "val")


def test_a_broken_image_is_named(tiny_engine: Path, camvid: Path) -> None:
    (camvid / "val/images/1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images/1\.png: not a readable image"):
        evaluate(tiny_engine, camvid, "val")


def test_a_broken_label_is_named(tiny_engine: Path, camvid: Path) -> None:
    (camvid / "val/labels/2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"labels/2\.png: not a readable image"):
        evaluate(tiny_engine, camvid, "val")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((64, 96), np.uint8), r"labels/0\.png: the prediction has 192x128 pixels, the label 96x64"),
        (np.full((128, 192), 11, np.uint8), r"labels/0\.png: ids \[11\] are none that labels of camvid hold"),
    ],
)
def test_a_label_that_does_not_fit_its_frame_or_the_engine_is_named(
    tiny_engine: Path, camvid: Path, label: Image, message: str
) -> None:
    cv2.imwrite(str(camvid / "val/labels/0.png"), label)
    with pytest.raises(DataError, match=message):
        evaluate(tiny_engine, camvid, "val")
