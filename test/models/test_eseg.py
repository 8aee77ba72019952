"""What is particular to ESeg: its strides, its pooled levels, its stochastic depth. test_zoo.py has the rest."""

from __future__ import annotations

import pytest
import torch

from eseg_ros.models.eseg import ESEG_CONFIGS, Eseg, select_levels
from eseg_ros.models.layers import StochasticDepth
from eseg_ros.models.zoo import build_model

CLASSES = 11


@pytest.mark.parametrize("name", ESEG_CONFIGS)
def test_scores_come_at_a_quarter_and_for_lite_at_an_eighth(name: str) -> None:
    with torch.device("meta"):
        assert build_model(name, CLASSES).stride == (8 if "lite" in name else 4)


def test_levels_behind_the_encoder_are_averages_of_the_level_before() -> None:
    encoded = {level: torch.full((1, 2, 12, 15), float(level)) for level in (4, 5)}
    pyramid = select_levels(encoded, 5, 9)
    sizes = {level: tuple(x.shape[-2:]) for level, x in pyramid.items()}
    assert sizes == {5: (12, 15), 6: (6, 8), 7: (3, 4), 8: (2, 2), 9: (1, 1)}
    assert all((x == 5.0).all() for x in pyramid.values()), "padding must not darken the border"


def test_stochastic_depth_grows_with_the_blocks() -> None:
    with torch.device("meta"):
        model = Eseg(ESEG_CONFIGS["eseg_lite_s"], CLASSES, drop_connect=0.2)
    rates = [layer.rate for layer in model.modules() if isinstance(layer, StochasticDepth)]
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    assert 0.15 < rates[-1] < 0.2


def test_scores_start_near_zero() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        assert build_model("eseg_lite_s", CLASSES)(torch.randn(2, 3, 64, 96)).abs().max() < 1
