"""Fast-SCNN: its size by the paper, its branches, heads for training only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eseg_ros.models.complexity import count_parameters
from eseg_ros.models.fast_scnn import FastScnn

PAPER = 1.11e6


@pytest.fixture(scope="module")
def model() -> FastScnn:
    """With Cityscapes' 19 classes, on the meta device."""
    with torch.device("meta"):
        return FastScnn(19).eval()


def test_it_has_the_parameters_of_the_paper_within_3_percent(model: FastScnn) -> None:
    assert count_parameters(model.inference_form()) == pytest.approx(PAPER, rel=0.03)


def test_the_difference_is_the_two_numbers_a_channel_of_batch_normalization(model: FastScnn) -> None:
    norms = [layer for layer in model.inference_form().modules() if isinstance(layer, nn.BatchNorm2d)]
    in_norms = sum(count_parameters(norm) for norm in norms)
    assert round((count_parameters(model.inference_form()) - in_norms) / 1e6, 2) == PAPER / 1e6


def test_the_branches_have_strides_8_and_32(model: FastScnn) -> None:
    shallow = model.downsample(torch.empty(1, 3, 1024, 2048, device="meta"))
    assert shallow.shape == (1, 64, 128, 256)
    assert model.global_features(shallow).shape == (1, 128, 32, 64)


def test_both_branches_are_supervised_with_a_weight_of_four_tenths(model: FastScnn) -> None:
    outputs = model.supervised(torch.empty(2, 3, 128, 256, device="meta"))
    assert [output.weight for output in outputs] == [1.0, 0.4, 0.4]
    assert [output.scores.shape[-2:] for output in outputs] == [(16, 32), (16, 32), (4, 8)]
