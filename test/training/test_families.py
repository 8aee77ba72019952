"""Every model of the table trains: its own losses, its own heads, the same trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eseg_ros.models.zoo import MODELS
from eseg_ros.training.checkpoint import ema_weights, load_for_export, read_checkpoint
from eseg_ros.training.config import TrainConfig, config_from_dict
from eseg_ros.training.data import training_loader
from eseg_ros.training.trainer import LAST_CHECKPOINT, SegmentationTask, train

SMALL = [name for name, model in MODELS.items() if model.parameters < 15]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in SMALL]


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_a_few_steps_lower_the_loss(recipe: dict[str, Any], name: str) -> None:
    torch.manual_seed(0)
    task = SegmentationTask(config_from_dict({**recipe, "model": name}))
    image, label = next(iter(training_loader(task.config)))
    optimizer = torch.optim.AdamW(task.net.parameters(), lr=3e-3)
    losses = []
    for _ in range(16 if name in SMALL else 8):
        loss = task.loss(task.net.supervised(task.normalized(image)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


WITH_AUXILIARY_HEADS = ["fast_scnn", "mfaranet"]


@pytest.fixture(params=WITH_AUXILIARY_HEADS)
def trained(recipe: dict[str, Any], request: pytest.FixtureRequest) -> TrainConfig:
    """A run of two epochs of a model that training gives more heads."""
    config = config_from_dict({**recipe, "model": request.param})
    train(config)
    return config


def test_auxiliary_heads_are_averaged_and_resumed_as_all_else_is(trained: TrainConfig) -> None:
    state = read_checkpoint(trained.run_dir / LAST_CHECKPOINT)
    auxiliary = {name: w for name, w in ema_weights(state).items() if name.startswith("auxiliary.")}
    assert auxiliary
    fresh = SegmentationTask(trained).ema.state_dict()
    assert any(not torch.equal(weight, fresh[name]) for name, weight in auxiliary.items())


def test_what_is_exported_gives_the_scores_alone(trained: TrainConfig) -> None:
    net, record = load_for_export(Path(trained.run_dir / "best.ckpt"))
    assert record.model == trained.model
    scores = net.deploy()(torch.zeros(1, 3, 64, 96))
    assert scores.shape == (1, 11, 64 // net.stride, 96 // net.stride)
