"""Training in several processes that torchrun starts, here two on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eseg_ros.data.reading import DataError
from eseg_ros.labels import CAMVID
from eseg_ros.models.zoo import build_model
from eseg_ros.training.checkpoint import ema_weights, read_checkpoint
from eseg_ros.training.config import config_from_dict, config_to_yaml
from eseg_ros.training.data import training_loader, validation_loader, validation_sets
from eseg_ros.training.processes import Process, this_process
from eseg_ros.training.trainer import LAST_CHECKPOINT, train


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_and_passes_together_see_the_steps_that_one_would(recipe: dict[str, Any], accumulate: int) -> None:
    whole = [image for image, _ in training_loader(config_from_dict(recipe))]
    config = config_from_dict({**recipe, "accumulate": accumulate})
    parts = [[image for image, _ in training_loader(config, 0, Process(rank, 2))] for rank in (0, 1)]
    assert {len(part) for part in parts} == {accumulate * len(whole)}
    for step, frames in enumerate(whole):
        passes = range(step * accumulate, (step + 1) * accumulate)
        assert torch.equal(torch.cat([part[number] for number in passes for part in parts]), frames)


def test_processes_validate_every_frame_once(recipe: dict[str, Any]) -> None:
    frames = validation_sets(config_from_dict(recipe))[0]
    shares = [[image.numpy().tobytes() for image, _ in validation_loader(frames, Process(rank, 2))] for rank in (0, 1)]
    assert [len(share) for share in shares] == [2, 1]
    assert len({*shares[0], *shares[1]}) == 3


def test_a_batch_that_cannot_be_divided_is_an_error(recipe: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be divided among 3 processes") as caught:
        training_loader(config_from_dict(recipe), 0, Process(0, 3))
    assert "multiple of 3" in str(caught.value)


def test_a_process_is_alone_unless_torchrun_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert this_process() == Process(0, 1, 1)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("GROUP_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert this_process() == Process(5, 8, 2)


@pytest.mark.slow
def test_two_processes_learn_as_one_does(recipe: dict[str, Any], tmp_path: Path) -> None:
    # Every pixel counts alike and no frame is padded: the mean of two halves' gradients is that of the whole. Batch
    # norm sees the halves (PyTorch synchronizes it on GPUs only), so its layers use the statistics they start with.
    layers = build_model("eseg_lite_s", len(CAMVID)).named_modules()
    recipe["freeze"] = [name for name, layer in layers if isinstance(layer, nn.BatchNorm2d)]
    recipe |= {"augment": {"crop": [64, 96], "flip": 0.5}, "loss": {"threshold": 1.0}, "optimizer": {"lr": 1e-3}}
    alone, together = ({**recipe, "name": name} for name in ("alone", "together"))
    file = tmp_path / "together.yaml"
    file.write_text(config_to_yaml(config_from_dict(together)))

    train(config_from_dict(alone))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "eseg_ros.cli", "train", str(file)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("best checkpoint:") == 1
    runs = [config_from_dict(tree).run_dir for tree in (alone, together)]
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    assert [entry["step"] for entry in logs[1]] == [entry["step"] for entry in logs[0]]
    assert logs[0][0]["loss"] != logs[0][1]["loss"]
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["scores"] == pytest.approx(one["scores"], abs=1e-3)
    weights = [ema_weights(read_checkpoint(run / LAST_CHECKPOINT)) for run in runs]
    assert all(
        torch.allclose(weights[1][name].float(), w.float(), rtol=1e-3, atol=1e-5) for name, w in weights[0].items()
    )
    assert (runs[1] / "report.html").is_file()
