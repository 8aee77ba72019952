"""The encoder against the published EfficientNets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eseg_ros.models.complexity import count_parameters
from eseg_ros.models.efficientnet import (
    B0_STAGES,
    EfficientNet,
    EncoderForm,
    FusedMBConv,
    MBConv,
    SqueezeExcite,
    scale_depth,
    scale_width,
)

IMAGENET_CLASSES = 1000


def meta_encoder(
    width: float, depth: float, *, form: EncoderForm = EncoderForm.EFFICIENTNET, drop_connect: float = 0.0
) -> EfficientNet:
    """An encoder without memory: its shape is what is looked at."""
    with torch.device("meta"):
        return EfficientNet(width=width, depth=depth, form=form, drop_connect=drop_connect)


@pytest.mark.parametrize(
    ("width", "stem", "channels"),
    [
        (0.4, 16, [8, 16, 16, 32, 48, 80, 128]),
        (1.0, 32, [16, 24, 40, 80, 112, 192, 320]),
        (1.4, 48, [24, 32, 56, 112, 160, 272, 448]),  # B4
        (2.0, 64, [32, 48, 80, 160, 224, 384, 640]),  # B7
    ],
)
def test_widths_round_to_eights(width: float, stem: int, channels: list[int]) -> None:
    assert scale_width(32, width) == stem
    assert [scale_width(stage.channels, width) for stage in B0_STAGES] == channels


@pytest.mark.parametrize(
    ("depth", "repeats"),
    [
        (0.6, [1, 2, 2, 2, 2, 3, 1]),
        (1.1, [2, 3, 3, 4, 4, 5, 2]),  # B1
        (3.1, [4, 7, 7, 10, 10, 13, 4]),  # B7
    ],
)
def test_depths_round_up(depth: float, repeats: list[int]) -> None:
    assert [scale_depth(stage.repeats, depth) for stage in B0_STAGES] == repeats


@pytest.mark.parametrize(
    ("width", "depth", "published"),
    [(1.0, 1.0, 5_288_548), (1.0, 1.1, 7_794_184), (1.4, 1.8, 19_341_616), (2.0, 3.1, 66_347_960)],
    ids=["B0", "B1", "B4", "B7"],
)
def test_parameters_are_the_published_ones_without_the_classification_head(
    width: float, depth: float, published: int
) -> None:
    encoder = meta_encoder(width, depth)
    head = scale_width(1280, width)
    head_parameters = (encoder.channels[5] + 2) * head + (head + 1) * IMAGENET_CLASSES
    assert count_parameters(encoder) == published - head_parameters


@pytest.mark.parametrize("form", EncoderForm)
def test_levels_halve_rounding_up(form: EncoderForm) -> None:
    encoder = meta_encoder(0.4, 0.6, form=form)
    pyramid = encoder(torch.empty(2, 3, 360, 481, device="meta"))
    sizes = {1: (180, 241), 2: (90, 121), 3: (45, 61), 4: (23, 31), 5: (12, 16)}
    assert {level: x.shape for level, x in pyramid.items()} == {
        level: (2, encoder.channels[level], *size) for level, size in sizes.items()
    }


def test_the_fused_form_has_dense_kernels_of_the_original_sizes() -> None:
    encoder = meta_encoder(1.0, 1.0, form=EncoderForm.FUSED)
    first_blocks = [stage[0] for stage in encoder.stages]
    assert all(isinstance(block, FusedMBConv) for block in first_blocks)
    assert [block.expand.conv.kernel_size[0] for block in first_blocks] == [3, 3, 5, 3, 5, 5, 3]
    assert all(layer.groups == 1 for layer in encoder.modules() if isinstance(layer, nn.Conv2d))


def test_the_fused_form_has_neither_squeeze_excite_nor_silu() -> None:
    layers = list(meta_encoder(1.0, 1.0, form=EncoderForm.FUSED).modules())
    assert not any(isinstance(layer, SqueezeExcite | nn.SiLU) for layer in layers)


def test_a_fused_block_with_expansion_1_is_one_convolution() -> None:
    block = FusedMBConv(8, 16, kernel=3, stride=1, expansion=1, drop_rate=0.0, form=EncoderForm.FUSED)
    assert [layer.weight.shape for layer in block.modules() if isinstance(layer, nn.Conv2d)] == [(16, 8, 3, 3)]


def test_the_lite_form_has_neither_squeeze_excite_nor_any_activation_but_relu6() -> None:
    layers = list(meta_encoder(1.0, 1.0, form=EncoderForm.LITE).modules())
    assert not any(isinstance(layer, SqueezeExcite | nn.SiLU) for layer in layers)
    assert sum(isinstance(layer, nn.ReLU6) for layer in layers) == 1 + 16  # stem and blocks


@pytest.mark.parametrize(
    ("block", "form"),
    [(MBConv, EncoderForm.EFFICIENTNET), (MBConv, EncoderForm.LITE), (FusedMBConv, EncoderForm.FUSED)],
)
@pytest.mark.parametrize(("out_channels", "stride", "has_shortcut"), [(8, 1, True), (8, 2, False), (16, 1, False)])
def test_a_block_that_keeps_the_shape_has_a_shortcut(
    block: type[MBConv | FusedMBConv], form: EncoderForm, out_channels: int, stride: int, has_shortcut: bool
) -> None:
    layer = block(8, out_channels, kernel=3, stride=stride, expansion=6, drop_rate=0.0, form=form).eval()
    nn.init.zeros_(layer.project.norm.weight)  # silences the branch
    image = torch.randn(1, 8, 6, 6)
    assert torch.equal(layer(image), image) is has_shortcut


def test_drop_connect_grows_linearly_with_the_blocks() -> None:
    encoder = meta_encoder(1.0, 1.0, drop_connect=0.2)
    rates = [block.drop.rate for stage in encoder.stages for block in stage]
    assert rates == pytest.approx([0.2 * index / 16 for index in range(16)])
