r"""BiFPN, EfficientDet's two-way feature pyramid (arXiv 1911.09070), with ESeg's shared laterals.

A cell over levels 3 to 7; circles of the columns `top_down` and `out` are nodes:

    level     in           top_down           out

      7       o------------------------------> o      coarse
               \                               ^
                 ------------                  |
                              v                |
      6       o-------------> o--------------> o      `in` goes into `out` here as well
                              |                ^
                              v                |
      5       o-------------> o--------------> o      here as well
                              |                ^
                              v                |
      4       o-------------> o--------------> o      here as well
                              |                ^
                               ------------    |
                                            v  |
      3       o------------------------------> o      fine

Arrows down upsample, arrows up downsample. The two ends need no node in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eseg_ros.models.layers import ConvNorm, FastNormalizedSum, SeparableConv


class Feature(NamedTuple):
    """A circle of the diagram."""

    column: str  # "in", "top_down" or "out"
    level: int

    @property
    def name(self) -> str:
        """Key of the node that computes it, e.g. "top_down5"."""
        return f"{self.column}{self.level}"


class Node(NamedTuple):
    """A computed feature and what it is computed from."""

    output: Feature
    inputs: tuple[Feature, ...]


def bifpn_nodes(min_level: int, max_level: int) -> list[Node]:
    """The nodes of one cell in the order in which they can be computed."""
    nodes = []
    above = Feature("in", max_level)
    for level in range(max_level - 1, min_level, -1):
        node = Node(Feature("top_down", level), (Feature("in", level), above))
        nodes.append(node)
        above = node.output
    below = Feature("out", min_level)
    nodes.append(Node(below, (Feature("in", min_level), above)))
    for level in range(min_level + 1, max_level):
        node = Node(Feature("out", level), (Feature("in", level), Feature("top_down", level), below))
        nodes.append(node)
        below = node.output
    nodes.append(Node(Feature("out", max_level), (Feature("in", max_level), below)))
    return nodes


class BiFPNNode(nn.Module):
    """Weighted sum, activation, separable 3x3 convolution."""

    def __init__(self, num_inputs: int, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.fuse = FastNormalizedSum(num_inputs)
        self.activation = activation
        self.conv = SeparableConv(channels, channels)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """num_inputs x (B, C, H, W) -> (B, C, H, W)."""
        x: Tensor = self.conv(self.activation(self.fuse(inputs)))
        return x


class BiFPNCell(nn.Module):
    """One pass down and up the pyramid.

    Args:
        in_channels: channels of each input level; its keys are the levels. A level that does not have
            `channels` yet gets a 1x1 lateral, which the two nodes of the level share.
        channels: channels of every output level.
        activation: used inside every node.
    """

    def __init__(self, in_channels: Mapping[int, int], channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.plan = bifpn_nodes(min(in_channels), max(in_channels))
        self.laterals = nn.ModuleDict(
            {str(level): ConvNorm(width, channels) for level, width in in_channels.items() if width != channels}
        )
        self.nodes = nn.ModuleDict(
            {node.output.name: BiFPNNode(len(node.inputs), channels, activation) for node in self.plan}
        )

    def forward(self, pyramid: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """{level: (B, in_channels[level], h, w)} -> {level: (B, channels, h, w)}, the same levels and sizes."""
        features: dict[Feature, Tensor] = {}
        for level, x in pyramid.items():
            features[Feature("in", level)] = self.laterals[str(level)](x) if str(level) in self.laterals else x
        for output, inputs in self.plan:
            size = pyramid[output.level].shape[-2:]
            resized = [resample(features[i], output.level - i.level, size) for i in inputs]
            features[output] = self.nodes[output.name](resized)
        return {level: features[Feature("out", level)] for level in pyramid}


def resample(x: Tensor, levels_up: int, size: torch.Size) -> Tensor:
    """Brings a neighbouring level to `size`: nearest down the diagram, 3x3 stride-2 max-pool up it.

    Nearest works by size, not by factor 2: odd sizes halve to a rounded-up half.
    """
    if levels_up == 0:
        return x
    if levels_up < 0:
        return F.interpolate(x, size=size, mode="nearest")
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
