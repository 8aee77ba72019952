from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eseg_ros.engine import release as releasing
from eseg_ros.engine.manifest import load_engine, portable_path
from eseg_ros.engine.release import release
from eseg_ros.engine.verify import Limits
from eseg_ros.errors import EngineError


def test_a_run_becomes_engines_of_every_precision_with_scores(
    lite_checkpoint: Path, dataset: Path, tmp_path: Path
) -> None:
    released = release(lite_checkpoint.parent, "mine", tmp_path, dataset, precisions=("fp16",))
    assert [engine.path for engine in released] == [tmp_path / "mine.json", tmp_path / "mine_fp16.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.json",
        "mine.onnx",
        "mine_fp16.json",
        "mine_fp16.onnx",
    ]
    half = load_engine(tmp_path / "mine_fp16.json").manifest
    key = f"{dataset.name}/val"
    assert half.precision == "fp16"
    assert f"--engine {portable_path(tmp_path / 'mine_fp16.json')}" in half.scores[key]["command"]
    assert ".release." not in (tmp_path / "mine_fp16.json").read_text()
    assert half.scores[key]["miou"] == pytest.approx(released[1].miou, abs=1e-6)
    assert half.parity[key]["passed"]
    assert released[1].agreement is not None
    assert released[1].agreement > 0.99


def test_a_score_on_the_frames_of_the_training_is_not_in_the_manifest(
    lite_checkpoint: Path, dataset: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(dataset, tmp_path / "camvid")  # as the checkpoint's recipe says
    for split, recorded in (("train", set()), ("val", {"camvid/val"})):
        (engine,) = release(lite_checkpoint, "mine", tmp_path, data, split=split, precisions=())
        assert engine.miou >= 0
        assert set(load_engine(engine.path).manifest.scores) == recorded


def test_engines_have_the_size_that_is_asked_for(lite_checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    (engine,) = release(lite_checkpoint, "mine", tmp_path, dataset, precisions=(), size=(128, 96))
    spec = load_engine(engine.path).manifest.input
    assert (spec.width, spec.height) == (128, 96)


def test_where_a_gate_does_not_hold_nothing_is_released(
    lite_checkpoint: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = releasing.verify
    strict = Limits(agreement=1.1, miou_drop=0.0)
    monkeypatch.setattr(releasing, "verify", lambda *args: real(*args, limits=strict))
    (tmp_path / "mine.json").write_text("what was here before")
    with pytest.raises(EngineError, match=r"mine_fp16 does not pass: .*--precisions"):
        release(lite_checkpoint, "mine", tmp_path, dataset, precisions=("fp16",))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
    assert (tmp_path / "mine.json").read_text() == "what was here before"
