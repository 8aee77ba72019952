"""The two-way feature pyramid."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eseg_ros.models.bifpn import BiFPNCell, bifpn_nodes, resample

SIZES = {3: (45, 60), 4: (23, 30), 5: (12, 15), 6: (6, 8), 7: (3, 4), 8: (2, 2), 9: (1, 1)}
"""Levels of a 360x480 image."""


def pyramid_of(channels: int) -> dict[int, torch.Tensor]:
    return {level: torch.randn(2, channels, *size) for level, size in SIZES.items()}


def test_the_nodes_of_a_cell_are_those_of_the_diagram() -> None:
    described = [f"{node.output.name} <- {' '.join(i.name for i in node.inputs)}" for node in bifpn_nodes(3, 6)]
    assert described == [
        "top_down5 <- in5 in6",
        "top_down4 <- in4 top_down5",
        "out3 <- in3 top_down4",
        "out4 <- in4 top_down4 out3",
        "out5 <- in5 top_down5 out4",
        "out6 <- in6 out5",
    ]


def test_a_cell_keeps_levels_and_sizes() -> None:
    cell = BiFPNCell(dict.fromkeys(SIZES, 12), 8, nn.ReLU())
    shapes = {level: x.shape for level, x in cell(pyramid_of(12)).items()}
    assert shapes == {level: (2, 8, *size) for level, size in SIZES.items()}


def test_only_levels_of_another_width_get_a_lateral() -> None:
    cell = BiFPNCell({3: 12, 4: 8, 5: 16}, 8, nn.ReLU())
    assert set(cell.laterals) == {"3", "5"}


@pytest.mark.parametrize("changed", [3, 6, 9])
def test_every_level_is_seen_by_every_level(changed: int) -> None:
    torch.manual_seed(0)
    cell = BiFPNCell(dict.fromkeys(SIZES, 8), 8, nn.SiLU()).eval()
    pyramid = pyramid_of(8)
    before = cell(pyramid)
    after = cell({**pyramid, changed: pyramid[changed] + 1})
    assert [level for level in SIZES if torch.equal(before[level], after[level])] == []


@pytest.mark.parametrize("level", [3, 4, 5, 6, 7, 8])
def test_resampling_meets_the_neighbour_in_size(level: int) -> None:
    fine, coarse = (torch.rand(1, 2, *SIZES[i]) for i in (level, level + 1))
    assert resample(fine, 1, coarse.shape[-2:]).shape == coarse.shape
    assert resample(coarse, -1, fine.shape[-2:]).shape == fine.shape


def test_upsampling_repeats_and_downsampling_takes_the_maximum() -> None:
    rows = torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2)
    assert resample(rows, -1, torch.Size((1, 3))).flatten().tolist() == [1.0, 1.0, 2.0]
    assert resample(torch.tensor([5.0, 1.0, 2.0]).view(1, 1, 1, 3), 1, torch.Size((1, 2))).flatten().tolist() == [5, 2]
