from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.labels import CAMVID
from eseg_ros.training.checkpoint import (
    CheckpointError,
    ema_weights,
    load_for_export,
    read_checkpoint,
    record_of,
)
from eseg_ros.training.config import TrainConfig, config_from_dict, load_config
from eseg_ros.training.data import SegmentationFolder
from eseg_ros.training.losses import upsampled
from eseg_ros.training.start import read_start, warm_start
from eseg_ros.training.trainer import BEST_CHECKPOINT, LAST_CHECKPOINT, SegmentationTask, TrainingDivergedError, train


def log_of(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run of 24 epochs in bf16, done."""
    config = load_config(
        Path(__file__).parents[2] / "config" / "train" / "smoke.yaml",
        [f"data.root={dataset}", f"out={tmp_path_factory.mktemp('runs')}", "epochs=24", "validate_every=6",
         "data.batch_size=4", "optimizer.lr=3e-3", "augment.hue=0"],
    )  # fmt: skip
    train(config)
    return config


@pytest.mark.slow
def test_a_run_learns(finished: TrainConfig) -> None:
    log = log_of(finished)
    assert [entry["epoch"] for entry in log] == list(range(1, 25))
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]


@pytest.mark.slow
def test_a_run_says_how_long_it_waited_for_data(finished: TrainConfig) -> None:
    assert all(0 <= entry["data_wait"] <= 1 for entry in log_of(finished))


@pytest.mark.slow
def test_a_run_keeps_its_resolved_recipe_and_a_tensorboard_log(finished: TrainConfig) -> None:
    assert load_config(finished.run_dir / "config.yaml") == finished
    assert list((finished.run_dir / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_a_checkpoint_alone_is_enough_for_an_export(finished: TrainConfig) -> None:
    net, record = load_for_export(finished.run_dir / "best.ckpt")
    assert not net.training
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 11, 8, 12)
    assert (record.model, record.classes, record.mean) == ("eseg_lite_s", CAMVID, (0.485, 0.456, 0.406))
    assert config_from_dict(record.config) == finished
    assert record.scores["val/miou"] == record.best_miou


@pytest.mark.slow
def test_a_checkpoint_carries_classes_of_ones_own(recipe: dict[str, Any], tmp_path: Path) -> None:
    names = tmp_path / "classes.yaml"
    names.write_text("classes: [grass, gravel, wall, {name: dog, color: [9, 8, 7]}]")
    recipe.update(classes=str(names), epochs=1)
    best = train(config_from_dict(recipe))
    names.unlink()
    net, record = load_for_export(best)
    assert record.classes.names == ("grass", "gravel", "wall", "dog")
    assert record.classes.palette[3] == (9, 8, 7)
    assert net(torch.zeros(1, 3, 64, 96)).shape[1] == 4


def test_what_is_exported_is_the_average_not_the_last_step(finished: TrainConfig) -> None:
    path = finished.run_dir / LAST_CHECKPOINT
    state = read_checkpoint(path)["state_dict"]
    net, record = load_for_export(path)
    exported = net.state_dict()
    assert record.epochs == 24
    assert all(torch.equal(exported[name], state[f"ema.{name}"]) for name in exported)
    assert any(not torch.equal(exported[name], state[f"net.{name}"]) for name in exported)


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten(finished: TrainConfig) -> None:
    with pytest.raises(EsegError, match="--resume"):
        train(finished)


@pytest.mark.slow
@pytest.mark.parametrize(("fixed", "moves"), [(0, True), (1, False)])
def test_in_the_last_epochs_statistics_may_stay_while_weights_learn(
    fixed: int, moves: bool, recipe: dict[str, Any]
) -> None:
    config = config_from_dict({**recipe, "epochs": 2, "fixed_statistics": fixed})
    ends: list[dict[str, torch.Tensor]] = []

    class Ends(L.Callback):
        def on_train_epoch_end(self, _trainer: L.Trainer, task: L.LightningModule) -> None:
            ends.append({name: value.clone() for name, value in task.net.state_dict().items()})  # type: ignore[union-attr]

    with pytest.MonkeyPatch.context() as patch:
        make = L.Trainer
        patch.setattr(L, "Trainer", lambda **kw: make(**{**kw, "callbacks": [*kw["callbacks"], Ends()]}))
        train(config)
    changed = {name for name, value in ends[0].items() if not torch.equal(ends[1][name], value)}
    assert any(name.endswith("running_mean") for name in changed) == moves
    assert any(name.endswith("norm.weight") for name in changed)
    assert any(name.endswith("running_mean") and bool(value.any()) for name, value in ends[0].items())


@pytest.mark.slow
def test_a_warm_start_takes_what_fits_and_names_what_does_not(finished: TrainConfig) -> None:
    path = finished.run_dir / "best.ckpt"
    other = SegmentationTask(replace(finished, classes="cityscapes")).net
    unfitted = warm_start(other, read_start(path, []))
    weights = ema_weights(read_checkpoint(path))
    assert 1 <= len(unfitted) <= 2  # the last layer: other classes
    assert all(torch.equal(w, weights[name]) for name, w in other.state_dict().items() if name not in unfitted)


@pytest.mark.slow
def test_a_cut_checkpoint_is_a_clear_error(finished: TrainConfig, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((finished.run_dir / "best.ckpt").read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_for_export(cut)


def test_a_missing_and_a_foreign_checkpoint_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_for_export(tmp_path / "none.ckpt")
    torch.save({"model": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of `eseg train`"):
        load_for_export(tmp_path / "foreign.ckpt")


@pytest.fixture
def stopped(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A run of three epochs, each step in two passes, that died in the third."""
    step = SegmentationTask.training_step

    def dying_step(task: SegmentationTask, *arguments: Any) -> torch.Tensor:
        if task.current_epoch == 2:
            raise RuntimeError("power cut")
        return step(task, *arguments)

    recipe["augment"]["rotation"] = 10
    recipe["optimizer"]["schedule"] = "poly"
    config = config_from_dict({**recipe, "epochs": 3, "accumulate": 2, "name": "stopped"})
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", dying_step)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [LAST_CHECKPOINT, BEST_CHECKPOINT])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_ends_exactly_where_an_unbroken_one_does(
    stopped: TrainConfig, num_workers: int, checkpoint: str
) -> None:
    stopped = replace(stopped, data=replace(stopped.data, num_workers=num_workers))
    unbroken = replace(stopped, name="unbroken")
    train(unbroken)
    train(stopped, resume=stopped.run_dir / checkpoint)

    state, expected = (read_checkpoint(c.run_dir / LAST_CHECKPOINT) for c in (stopped, unbroken))
    assert all(torch.equal(state["state_dict"][name], w) for name, w in expected["state_dict"].items())
    assert record_of(state).best_miou == record_of(expected).best_miou
    curves = [[(entry["epoch"], entry["loss"], entry["scores"]) for entry in log_of(c)] for c in (stopped, unbroken)]
    assert curves[0] == curves[1]


def test_a_loss_that_is_no_number_stops_the_run_with_advice(recipe: dict[str, Any]) -> None:
    recipe["optimizer"] = {"name": "sgd", "lr": 1e30}
    with pytest.raises(TrainingDivergedError, match=r"the loss is (nan|inf) .* lower optimizer\.lr"):
        train(config_from_dict(recipe))


def test_the_score_that_chooses_is_that_of_the_exported_network_over_all_validation_sets(
    recipe: dict[str, Any], dataset: Path
) -> None:
    recipe["data"]["validate"] = [{"name": "a"}, {"name": "b", "split": "train"}]
    net, record = load_for_export(train(config_from_dict(recipe)))
    for name, split in (("a", "val"), ("b", "train")):
        confusion = ConfusionMatrix(len(CAMVID), CAMVID.ignore_id)
        for image, label in SegmentationFolder(dataset, split, CAMVID, cache=False):
            normalized = (image / 255 - np.array(record.mean)) / np.array(record.std)
            with torch.no_grad():
                logits = net(torch.from_numpy(normalized.transpose(2, 0, 1)).float()[None])
            confusion.update(upsampled(logits, label.shape)[0].argmax(0).byte().numpy(), label)
        assert record.scores[f"{name}/miou"] == pytest.approx(confusion.miou(), abs=1e-3)
    assert record.best_miou == pytest.approx((record.scores["a/miou"] + record.scores["b/miou"]) / 2)


def test_a_teacher_changes_what_is_learnt_and_stays_out_of_the_checkpoint(
    recipe: dict[str, Any], lite_checkpoint: Path
) -> None:
    recipe["epochs"] = 1
    alone = read_checkpoint(train(config_from_dict({**recipe, "name": "alone"})))
    recipe["distillation"] = {"teacher": str(lite_checkpoint), "weight": 0.5}
    taught = read_checkpoint(train(config_from_dict({**recipe, "name": "taught"})))
    assert taught["state_dict"].keys() == alone["state_dict"].keys()
    name = "net.head.classify.weight"
    assert not torch.equal(taught["state_dict"][name], alone["state_dict"][name])


def test_a_teacher_of_other_classes_is_refused(recipe: dict[str, Any], lite_checkpoint: Path) -> None:
    recipe.update(classes="cityscapes", distillation={"teacher": str(lite_checkpoint)})
    with pytest.raises(EsegError, match="teaches the classes of 'camvid'"):
        train(config_from_dict(recipe))
