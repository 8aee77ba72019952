"""ESeg and ESeg-Lite (arXiv 2203.12683): EfficientNet -> pooled levels up to P9 -> BiFPN -> weighted fusion -> head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from eseg_ros.models.bifpn import BiFPNCell
from eseg_ros.models.efficientnet import EfficientNet, EncoderForm
from eseg_ros.models.layers import OutputConv, SeparableConv, SoftmaxSum, initialize_convolutions, resized
from eseg_ros.models.network import AUXILIARY_WEIGHT, SegmentationNetwork, Supervised, check_image

ENCODER_LEVELS = 5


@dataclass(frozen=True)
class EsegConfig:
    """A member of the family.

    Attributes:
        encoder_width: EfficientNet's width factor.
        encoder_depth: EfficientNet's depth factor.
        form: what the encoder's blocks are made of; its activation is used throughout.
        bifpn_channels: channels of every pyramid level behind the encoder.
        bifpn_repeats: BiFPN cells.
        min_level: finest pyramid level used; the scores come out at stride 2^min_level.
        max_level: coarsest pyramid level used.
        fused_stages: stages of the encoder, counted from 0, whose blocks are fused although its form's are not.
        kernel: size of every kernel in the encoder's blocks; without it EfficientNet's, 3 and 5.
        expansion: of every encoder stage but the first; without it EfficientNet's, 6.
        auxiliary_level: level of the encoder whose features are scored by a head of their own while training.
    """

    encoder_width: float
    encoder_depth: float
    form: EncoderForm
    bifpn_channels: int
    bifpn_repeats: int
    min_level: int
    max_level: int = 9
    fused_stages: tuple[int, ...] = ()
    kernel: int | None = None
    expansion: int | None = None
    auxiliary_level: int | None = None


_LITE_S = EsegConfig(
    encoder_width=0.4, encoder_depth=0.6, form=EncoderForm.FUSED, bifpn_channels=64, bifpn_repeats=1, min_level=3
)

ESEG_CONFIGS = {
    "eseg_lite_s": _LITE_S,
    "eseg_lite_m": EsegConfig(
        encoder_width=0.6, encoder_depth=1.0, form=EncoderForm.FUSED, bifpn_channels=80, bifpn_repeats=2, min_level=3
    ),
    "eseg_lite_l": EsegConfig(
        encoder_width=1.0, encoder_depth=1.0, form=EncoderForm.FUSED, bifpn_channels=96, bifpn_repeats=3, min_level=3
    ),
    "eseg_s": EsegConfig(
        encoder_width=1.0,
        encoder_depth=1.1,
        form=EncoderForm.EFFICIENTNET,
        bifpn_channels=96,
        bifpn_repeats=4,
        min_level=2,
    ),
    "eseg_m": EsegConfig(
        encoder_width=1.4,
        encoder_depth=1.8,
        form=EncoderForm.EFFICIENTNET,
        bifpn_channels=192,
        bifpn_repeats=5,
        min_level=2,
    ),
    "eseg_l": EsegConfig(
        encoder_width=2.0,
        encoder_depth=3.1,
        form=EncoderForm.EFFICIENTNET,
        bifpn_channels=288,
        bifpn_repeats=6,
        min_level=2,
    ),
    "eseg_lite_fast": replace(_LITE_S, max_level=6, kernel=3),
    "eseg_mobile": EsegConfig(
        encoder_width=1.0,
        encoder_depth=1.0,
        form=EncoderForm.LITE,
        bifpn_channels=64,
        bifpn_repeats=1,
        min_level=2,
        max_level=6,
    ),
}
"""The paper's six models and two of ours. ESeg-Lite-Fast: Lite-S with 3x3 kernels throughout and four levels, found by
docs/benchmarks/faster_lite.sh. ESeg-Mobile: EfficientNet-Lite0, whose ImageNet weights are free, and levels P2 to
P6, fewer than the paper's, which carry better to drives never seen (docs/training)."""


class Eseg(SegmentationNetwork):
    """A member of the family with a head for `num_classes` classes.

    Args:
        config: which member.
        num_classes: channels of the scores.
        drop_connect: stochastic depth rate that the encoder's blocks grow to, from 0 at the first; training only.
    """

    def __init__(self, config: EsegConfig, num_classes: int, *, drop_connect: float = 0.0) -> None:
        super().__init__(stride=2**config.min_level)
        self.config = config
        channels = config.bifpn_channels
        levels = range(config.min_level, config.max_level + 1)
        activation = config.form.activation()
        self.encoder = EfficientNet(
            width=config.encoder_width,
            depth=config.encoder_depth,
            form=config.form,
            drop_connect=drop_connect,
            fused_stages=config.fused_stages,
            kernel=config.kernel,
            expansion=config.expansion,
        )
        widths = {level: self.encoder.channels[min(level, ENCODER_LEVELS)] for level in levels}
        self.bifpn = nn.ModuleList()
        for _ in range(config.bifpn_repeats):
            self.bifpn.append(BiFPNCell(widths, channels, activation))
            widths = dict.fromkeys(levels, channels)
        self.fuse = MultiScaleFusion(len(levels))
        self.head = Head(channels, num_classes, activation)
        self._auxiliary_levels = () if config.auxiliary_level is None else (config.auxiliary_level,)
        for level in self._auxiliary_levels:
            self.auxiliary.append(Head(self.encoder.channels[level], num_classes, activation))
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """See the base. While training, levels of one pixel (P9 of images up to 512 pixels) need a batch of two."""
        check_image(image)
        return self._scores(self.encoder(image))

    def supervised(self, image: Tensor) -> Sequence[Supervised]:
        """See the base."""
        check_image(image)
        encoded = self.encoder(image)  # {1: (B, C1, H/2, W/2), ..., 5: (B, C5, H/32, W/32)}
        extra = [head(encoded[level]) for head, level in zip(self.auxiliary, self._auxiliary_levels, strict=True)]
        return [Supervised(self._scores(encoded), weight=1.0), *(Supervised(x, AUXILIARY_WEIGHT) for x in extra)]

    def _scores(self, encoded: Mapping[int, Tensor]) -> Tensor:
        """{1: (B, C1, H/2, W/2), ..., 5: (B, C5, H/32, W/32)} -> (B, classes, H/stride, W/stride)."""
        pyramid = select_levels(encoded, self.config.min_level, self.config.max_level)
        for cell in self.bifpn:
            pyramid = cell(pyramid)  # {level: (B, bifpn_channels, H/2^level, W/2^level)}
        scores: Tensor = self.head(self.fuse(pyramid))
        return scores


def select_levels(encoded: Mapping[int, Tensor], min_level: int, max_level: int) -> dict[int, Tensor]:
    """Levels `min_level` to `max_level`; those behind the encoder's by repeated 3x3 stride-2 average pooling.

    Pooling gives the network a receptive field of the whole road for nothing: no weights, no
    multiply-adds to speak of. {level: (B, C, H/2^level, W/2^level)}
    """
    pyramid = {level: x for level, x in encoded.items() if min_level <= level <= max_level}
    for level in range(max(pyramid) + 1, max_level + 1):
        pyramid[level] = F.avg_pool2d(pyramid[level - 1], kernel_size=3, stride=2, padding=1, count_include_pad=False)
    return pyramid


class MultiScaleFusion(nn.Module):
    """All levels, bilinearly upsampled to the finest, in a softmax-weighted sum."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.sum = SoftmaxSum(num_levels)

    def forward(self, pyramid: Mapping[int, Tensor]) -> Tensor:
        """{level: (B, C, H/2^level, W/2^level)} -> (B, C, H/2^min_level, W/2^min_level)."""
        finest, *coarser = (pyramid[level] for level in sorted(pyramid))
        x: Tensor = self.sum([finest, *(resized(x, finest.shape[-2:]) for x in coarser)])
        return x


class Head(nn.Module):
    """Separable 3x3 convolution, then a 1x1 to the classes."""

    def __init__(self, channels: int, num_classes: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = SeparableConv(channels, channels)
        self.activation = activation
        self.classify = OutputConv(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, classes, h, w)."""
        x = self.classify(self.activation(self.conv(x)))
        return x
