"""Parameters and multiply-adds: of layers counted by hand, and of the models against the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from eseg_ros.models.complexity import count_macs, count_parameters
from eseg_ros.models.eseg import ESEG_CONFIGS, Eseg
from eseg_ros.models.zoo import build_model

CITYSCAPES = {"height": 1024, "width": 2048}
CLASSES = 19


def one_percent(figure: float) -> object:
    return pytest.approx(figure, rel=0.01)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("eseg_lite_s", 3.59e6, 17.0e9),  # MACs: the paper's; the others' a reconstruction of the paper's text
        ("eseg_lite_m", 9.74e6, 42.7e9),
        ("eseg_lite_l", 28.4e6, 114.9e9),
    ],
)
def test_lite_models_have_the_size_and_cost_of_the_table(name: str, parameters: float, macs: float) -> None:
    with torch.device("meta"):
        model = build_model(name, CLASSES)
    assert count_parameters(model) == one_percent(parameters)
    assert count_macs(model, **CITYSCAPES) == one_percent(macs)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("eseg_s", 6.9e6, 34.5e9), ("eseg_m", 20.0e6, 112e9), ("eseg_l", 70.5e6, 343e9)],
)
def test_models_have_the_size_and_cost_of_the_paper(name: str, parameters: float, macs: float) -> None:
    with torch.device("meta"):
        model = build_model(name, CLASSES)
    assert count_parameters(model) == one_percent(parameters)
    assert count_macs(model, **CITYSCAPES, include_batch_norm=True) == one_percent(macs)


@pytest.mark.parametrize(("name", "macs"), [("eseg_s", 33.8e9), ("eseg_m", 110.3e9), ("eseg_l", 339.8e9)])
def test_convolutions_alone_cost_a_little_less_than_the_paper_says(name: str, macs: float) -> None:
    with torch.device("meta"):
        assert count_macs(build_model(name, CLASSES), **CITYSCAPES) == pytest.approx(macs, rel=0.002)


@pytest.mark.parametrize(
    ("max_level", "parameters", "macs"), [(5, 6.4e6, 34.3e9), (7, 6.6e6, 34.5e9), (9, 6.9e6, 34.5e9)]
)
def test_eseg_s_with_fewer_levels_has_the_size_and_cost_of_the_ablation(
    max_level: int, parameters: float, macs: float
) -> None:
    with torch.device("meta"):
        model = Eseg(replace(ESEG_CONFIGS["eseg_s"], max_level=max_level), CLASSES)
    assert count_parameters(model) == one_percent(parameters)
    assert count_macs(model, **CITYSCAPES, include_batch_norm=True) == one_percent(macs)


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 5 * 3, 7),
    )


def test_macs_are_those_counted_by_hand() -> None:
    convolutions = 5 * 3 * (8 * 3 * 9 + 8 * 25)
    linear = 8 * 5 * 3 * 7
    assert count_macs(small_network(), 10, 6) == convolutions + linear
    assert count_macs(small_network(), 10, 6, include_batch_norm=True) == convolutions + linear + 5 * 3 * 8


def test_parameters_are_those_counted_by_hand() -> None:
    assert count_parameters(small_network()) == (8 * 27 + 8) + 16 + (8 * 25 + 8) + (120 * 7 + 7)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = small_network().train()
    count_macs(network, 10, 6)
    assert network.training
    assert not any(layer._forward_hooks for layer in network.modules())
    assert network[1].num_batches_tracked == 0
