from __future__ import annotations

import pytest
import torch
from torch import nn

from eseg_ros.training.config import OptimizerConfig
from eseg_ros.training.optimisation import build_optimizer, ema_decay, learning_rate_factor, update_ema


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_matrices_and_kernels_are_decayed(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(net, OptimizerConfig(name=name, weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in net.named_parameters()} == {
        "0.weight": 0.1, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Linear(2, 2)
    net.weight.requires_grad_(False)
    optimizer = build_optimizer(net, OptimizerConfig())
    assert [p is net.bias for group in optimizer.param_groups for p in group["params"]] == [True]


def test_the_rate_rises_linearly_peaks_after_the_warm_up_and_ends_near_zero() -> None:
    factors = [learning_rate_factor(step, 4, 20) for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.02
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_the_poly_schedule_falls_with_the_power_of_what_is_left() -> None:
    factors = [learning_rate_factor(step, 4, 20, "poly") for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == pytest.approx([(left / 16) ** 0.9 for left in range(16, 0, -1)])
    assert learning_rate_factor(20, 4, 20, "poly") == 0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fp16_gradients_can_be_clipped_before_they_are_used(name: str) -> None:
    def unscales_itself(clip_norm: float) -> bool:
        optimizer = build_optimizer(nn.Linear(2, 2), OptimizerConfig(name=name, clip_norm=clip_norm))
        return bool(getattr(optimizer, "_step_supports_amp_scaling", False))  # Lightning refuses to clip for these

    assert not unscales_itself(1.0)
    assert unscales_itself(0.0)


def test_the_average_follows_closely_at_first_and_slowly_later() -> None:
    assert ema_decay(0, 0.999) == pytest.approx(0.1)
    assert ema_decay(90, 0.999) == pytest.approx(0.91)
    assert ema_decay(100_000, 0.999) == 0.999


def test_the_average_takes_its_share_of_weights_and_statistics_and_copies_counters() -> None:
    net, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        net.weight.fill_(3.0)
        average.weight.fill_(1.0)
        net.running_mean.fill_(10.0)
        net.num_batches_tracked.fill_(7)
    update_ema(average, net, 0.75)
    assert average.weight.item() == pytest.approx(1.5)
    assert average.running_mean.item() == pytest.approx(2.5)
    assert average.num_batches_tracked.item() == 7
    assert net.weight.item() == 3.0
