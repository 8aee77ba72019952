"""Fast-SCNN (arXiv 1902.04502): two branches that share their first layers.

    image -> learning to downsample (stride 8) -+---------------------------> feature fusion -> classifier
                                                +-> global features (stride 32) -^

Read from the paper: no activation between depthwise and pointwise convolution; the fusion's depthwise
convolution has dilation 4, the factor between the branches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eseg_ros.models.layers import (
    ConvNorm,
    OutputConv,
    SeparableConv,
    conv_norm_relu,
    initialize_convolutions,
    resized,
)
from eseg_ros.models.network import AUXILIARY_WEIGHT, SegmentationNetwork, Supervised, check_image

SHALLOW = 64  # channels of the branch at stride 8
DEEP = 128  # channels of the branch at stride 32 and of all behind the fusion
EXPANSION = 6  # of the inverted bottlenecks
BOTTLENECKS = ((64, 3, 2), (96, 3, 2), (128, 3, 1))
"""(channels, repeats, stride of the first) of the global features, table 1 of the paper."""

POOLED_BINS = (1, 2, 3, 6)
DROPOUT = 0.1


class FastScnn(SegmentationNetwork):
    """Fast-SCNN with a head for `num_classes` classes.

    Training adds the loss of two small heads, one behind each branch, as the paper does.

    Args:
        num_classes: channels of the scores.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(stride=8)
        self.downsample = nn.Sequential(
            conv_norm_relu(3, 32, 3, stride=2),
            SeparableConv(32, 48, stride=2),
            nn.ReLU(),
            SeparableConv(48, SHALLOW, stride=2),
            nn.ReLU(),
        )
        self.global_features = nn.Sequential(_bottlenecks(SHALLOW), PyramidPooling(DEEP, DEEP))
        self.fuse = FeatureFusion(SHALLOW, DEEP, DEEP)
        self.head = nn.Sequential(
            SeparableConv(DEEP, DEEP),
            nn.ReLU(),
            SeparableConv(DEEP, DEEP),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            OutputConv(DEEP, num_classes),
        )
        self.auxiliary.extend(
            nn.Sequential(conv_norm_relu(channels, 32, 3), nn.Dropout(DROPOUT), OutputConv(32, num_classes))
            for channels in (SHALLOW, DEEP)
        )
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """See the base. While training, the pooled bins of one pixel need a batch of at least two."""
        scores: Tensor = self.head(self.fuse(*self._branches(image)))  # (B, classes, H/8, W/8)
        return scores

    def supervised(self, image: Tensor) -> list[Supervised]:
        """See the base."""
        branches = self._branches(image)
        scores = self.head(self.fuse(*branches))  # (B, classes, H/8, W/8)
        extra = [head(x) for head, x in zip(self.auxiliary, branches, strict=True)]  # at strides 8 and 32
        return [Supervised(scores, weight=1.0), *(Supervised(x, AUXILIARY_WEIGHT) for x in extra)]

    def _branches(self, image: Tensor) -> tuple[Tensor, Tensor]:
        check_image(image)
        shallow = self.downsample(image)  # (B, 64, H/8, W/8)
        return shallow, self.global_features(shallow)  # (B, 128, H/32, W/32)


def _bottlenecks(channels: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for out_channels, repeats, stride in BOTTLENECKS:
        for repeat in range(repeats):
            blocks.append(InvertedBottleneck(channels, out_channels, stride=stride if repeat == 0 else 1))
            channels = out_channels
    return blocks


class InvertedBottleneck(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381): 1x1 expansion, depthwise 3x3, linear 1x1 projection; ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            conv_norm_relu(in_channels, hidden),
            ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.ReLU(),
            ConvNorm(hidden, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class PyramidPooling(nn.Module):
    """Means over 1x1, 2x2, 3x3 and 6x6 windows, each through a 1x1 convolution and upsampled (arXiv 1612.01105)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = in_channels // len(POOLED_BINS)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(bins) for bins in POOLED_BINS)
        self.convs = nn.ModuleList(conv_norm_relu(in_channels, width) for _ in POOLED_BINS)
        self.project = conv_norm_relu(2 * in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        context = [conv(pool(x)) for pool, conv in zip(self.pools, self.convs, strict=True)]  # (B, in / 4, bins, bins)
        x = self.project(torch.cat([x, *(resized(c, x.shape[-2:]) for c in context)], dim=1))
        return x


class FeatureFusion(nn.Module):
    """Deep features, upsampled and smoothed, plus shallow ones."""

    def __init__(self, shallow: int, deep: int, out_channels: int) -> None:
        super().__init__()
        self.smooth = ConvNorm(deep, deep, 3, groups=deep, dilation=4)
        self.deep = ConvNorm(deep, out_channels)
        self.shallow = ConvNorm(shallow, out_channels)
        self.activation = nn.ReLU()

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """(B, shallow, H, W), (B, deep, H/4, W/4) -> (B, out, H, W)."""
        deep = self.activation(self.smooth(resized(deep, shallow.shape[-2:])))  # (B, deep, H, W)
        x: Tensor = self.activation(self.deep(deep) + self.shallow(shallow))
        return x
