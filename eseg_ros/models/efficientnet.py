"""EfficientNet (arXiv 1905.11946) as an encoder, in its own form, as EfficientNet-Lite, and as ESeg-Lite fuses it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from enum import Enum
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from eseg_ros.models.layers import ConvNorm, StochasticDepth

STEM_CHANNELS = 32
SQUEEZE_RATIO = 0.25  # of a block's input channels


class Stage(NamedTuple):
    """A run of equal blocks; only the first one strides and changes the width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


B0_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),  # P1
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),  # P2
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),  # P3
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),  # P4
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),  # P5
)
"""EfficientNet-B0, table 1 of the paper."""

LEVEL_OF_STAGE = {0: 1, 1: 2, 2: 3, 4: 4, 6: 5}
"""The last stage at each stride gives the pyramid level."""


def scale_width(channels: int, width: float) -> int:
    """`channels * width` to the nearest multiple of 8, but never more than 10 % below it."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def scale_depth(repeats: int, depth: float) -> int:
    """`repeats * depth`, rounded up."""
    return math.ceil(repeats * depth)


class EncoderForm(Enum):
    """What the encoder's blocks are made of."""

    EFFICIENTNET = "efficientnet"
    """MBConv with squeeze-excite, SiLU."""
    LITE = "lite"
    """EfficientNet-Lite, made for int8 and small devices: MBConv without squeeze-excite, ReLU6; stem of 32 channels."""
    FUSED = "fused"
    """ESeg-Lite: Fused-MBConv without squeeze-excite, ReLU."""

    def activation(self) -> nn.Module:
        """A new activation layer of this form."""
        activations: dict[EncoderForm, Callable[[], nn.Module]] = {
            EncoderForm.EFFICIENTNET: nn.SiLU,
            EncoderForm.LITE: nn.ReLU6,
            EncoderForm.FUSED: nn.ReLU,
        }
        return activations[self]()


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the means of all channels (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate: Tensor = self.activation(self.reduce(F.adaptive_avg_pool2d(x, 1)))  # (B, squeezed, 1, 1)
        gate = self.expand(gate).sigmoid()  # (B, C, 1, 1)
        return x * gate


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 expansion, depthwise kernel, squeeze-excite (not in the Lite form), 1x1 projection."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        drop_rate: float,
        form: EncoderForm,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.activation = form.activation()
        self.expand: nn.Module | None = ConvNorm(in_channels, hidden) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.excite: nn.Module | None = None
        if form is EncoderForm.EFFICIENTNET:
            self.excite = SqueezeExcite(hidden, max(1, int(in_channels * SQUEEZE_RATIO)))
        self.project = ConvNorm(hidden, out_channels)
        self.drop = StochasticDepth(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = x if self.expand is None else self.activation(self.expand(x))  # (B, hidden, H, W)
        y = self.activation(self.depthwise(y))  # (B, hidden, H/stride, W/stride)
        y = y if self.excite is None else self.excite(y)
        y = self.project(y)  # (B, out, H/stride, W/stride)
        return x + self.drop(y) if self.residual else y


class FusedMBConv(nn.Module):
    """MBConv with expansion and depthwise fused into one dense convolution; no squeeze-excite.

    With expansion 1 the dense convolution is the whole block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        drop_rate: float,
        form: EncoderForm,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion if expansion > 1 else out_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.activation = form.activation()
        self.expand = ConvNorm(in_channels, hidden, kernel, stride=stride)
        self.project: nn.Module | None = ConvNorm(hidden, out_channels) if expansion > 1 else None
        self.drop = StochasticDepth(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.activation(self.expand(x))  # (B, hidden, H/stride, W/stride)
        y = y if self.project is None else self.project(y)  # (B, out, H/stride, W/stride)
        return x + self.drop(y) if self.residual else y


class EfficientNet(nn.Module):
    """EfficientNet without its classification head: an image in, a pyramid of five levels out.

    Args:
        width: factor on the channels of stem and stages.
        depth: factor on the repeats of the stages.
        form: what the blocks are made of.
        drop_connect: stochastic depth rate that the blocks' rates grow to, linearly with their index.
        fused_stages: stages, counted from 0, made of Fused-MBConv whatever the form.
        kernel: size of every kernel in the blocks, in place of the stages' own.
        expansion: of every stage that expands, in place of its own.

    Attributes:
        channels: channels of each pyramid level, {1: ..., 5: ...}.
    """

    def __init__(
        self,
        *,
        width: float,
        depth: float,
        form: EncoderForm,
        drop_connect: float = 0.0,
        fused_stages: Collection[int] = (),
        kernel: int | None = None,
        expansion: int | None = None,
    ) -> None:
        super().__init__()
        total = sum(scale_depth(stage.repeats, depth) for stage in B0_STAGES)
        channels = scale_width(STEM_CHANNELS, width)
        self.stem = ConvNorm(3, channels, 3, stride=2)
        self.activation = form.activation()
        self.stages = nn.ModuleList()
        self.channels: dict[int, int] = {}
        built = 0
        for index, stage in enumerate(B0_STAGES):
            block = FusedMBConv if form is EncoderForm.FUSED or index in fused_stages else MBConv
            blocks = nn.Sequential()
            for repeat in range(scale_depth(stage.repeats, depth)):
                out_channels = scale_width(stage.channels, width)
                blocks.append(
                    block(
                        channels,
                        out_channels,
                        kernel=kernel or stage.kernel,
                        stride=stage.stride if repeat == 0 else 1,
                        expansion=expansion if expansion and stage.expansion > 1 else stage.expansion,
                        drop_rate=drop_connect * built / total,
                        form=form,
                    )
                )
                channels = out_channels
                built += 1
            self.stages.append(blocks)
            if index in LEVEL_OF_STAGE:
                self.channels[LEVEL_OF_STAGE[index]] = channels

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) -> {level: (B, channels[level], ceil(H / 2^level), ceil(W / 2^level))} for levels 1 to 5."""
        x = self.activation(self.stem(image))  # (B, stem, H/2, W/2)
        pyramid = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in LEVEL_OF_STAGE:
                pyramid[LEVEL_OF_STAGE[index]] = x
        return pyramid
