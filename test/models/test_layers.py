"""The shared layers and their inference forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from eseg_ros.models.layers import (
    ConvNorm,
    FastNormalizedSum,
    SeparableConv,
    SoftmaxSum,
    StochasticDepth,
    deployed_copy,
    initialize_convolutions,
)


def with_weight(layer: FastNormalizedSum | SoftmaxSum, weight: list[float]) -> FastNormalizedSum | SoftmaxSum:
    layer.weight.data = torch.tensor(weight)
    return layer


def trained_looking(conv_norm: ConvNorm) -> ConvNorm:
    """Every number of the normalization away from its start value."""
    norm = conv_norm.norm
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3.0)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.normal_(norm.bias)
    return conv_norm.eval()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [6, 7])
def test_a_strided_convolution_rounds_sizes_up(kernel: int, size: int) -> None:
    assert ConvNorm(2, 4, kernel, stride=2)(torch.rand(2, 2, size, size)).shape == (
        2,
        4,
        (size + 1) // 2,
        (size + 1) // 2,
    )


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 8), (2, 8)])
def test_folding_a_normalization_keeps_the_output(stride: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = trained_looking(ConvNorm(8, 16, 5, stride=stride, groups=groups))
    image = torch.randn(2, 8, 11, 13)
    torch.testing.assert_close(layer.deployed()(image), layer(image), rtol=1e-5, atol=1e-5)


def test_a_dilated_depthwise_convolution_learns_in_bf16_what_it_learns_in_float() -> None:
    gradients = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        layer = ConvNorm(64, 64, 3, groups=64, dilation=4)
        convert_conv2d_weight_memory_format(layer, torch.channels_last)
        image = torch.randn(2, 64, 24, 32).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = layer(image)
        (output.float() * torch.randn(2, 64, 24, 32)).sum().backward()
        assert layer.conv.weight.grad is not None
        gradients.append(layer.conv.weight.grad)
    assert float((gradients[1] - gradients[0]).norm()) < 0.05 * float(gradients[0].norm())


def test_only_the_convolution_that_is_normalized_is_folded() -> None:
    deployed = deployed_copy(SeparableConv(4, 8))
    assert set(deployed.state_dict()) == {"depthwise.weight", "pointwise.weight", "pointwise.bias"}


def test_fast_normalized_factors_are_relu_shares() -> None:
    layer = with_weight(FastNormalizedSum(3), [3.0, 1.0, -2.0])
    ones = torch.ones(1, 1, 2, 2)
    result = layer([ones, 10 * ones, 100 * ones])
    torch.testing.assert_close(result, (3 * ones + 10 * ones) / 4.0001)


def test_equal_softmax_weights_give_the_mean() -> None:
    ones = torch.ones(1, 1, 2, 2)
    torch.testing.assert_close(SoftmaxSum(4)([ones, 2 * ones, 3 * ones, 4 * ones]), 2.5 * ones)


@pytest.mark.parametrize("kind", [FastNormalizedSum, SoftmaxSum])
def test_a_deployed_sum_keeps_its_output_in_named_constants(kind: type[FastNormalizedSum | SoftmaxSum]) -> None:
    layer = with_weight(kind(3), [0.7, -0.4, 2.0])
    inputs = list(torch.randn(3, 1, 2, 4, 4))
    deployed = layer.deployed()
    assert set(deployed.state_dict()) == {"factor0", "factor1", "factor2"}
    torch.testing.assert_close(deployed(inputs), layer(inputs))


def test_the_weights_of_a_sum_are_learned() -> None:
    layer = FastNormalizedSum(2)
    layer([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)]).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[0] > 0 > layer.weight.grad[1]


def test_a_sum_of_the_wrong_number_of_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 tensors to sum with 3 weights"):
        SoftmaxSum(3)([torch.ones(1), torch.ones(1)])


def test_stochastic_depth_drops_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    dropped = StochasticDepth(0.25).train()(torch.ones(4000, 2, 3, 3))
    per_sample = dropped.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert per_sample.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)


def test_stochastic_depth_is_off_in_inference() -> None:
    image = torch.randn(8, 2, 3, 3)
    assert StochasticDepth(0.9).eval()(image) is image


def test_a_deployed_copy_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(ConvNorm(3, 4), StochasticDepth(0.5)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    deployed = deployed_copy(network)
    deployed[0].weight.data.zero_()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert isinstance(network[0], ConvNorm)
    torch.testing.assert_close(dict(network.state_dict()), before)


def test_convolutions_start_with_a_variance_of_two_over_fan_out() -> None:
    torch.manual_seed(0)
    conv, depthwise = nn.Conv2d(64, 128, 3), nn.Conv2d(512, 512, 5, groups=512)
    initialize_convolutions(nn.Sequential(conv, depthwise))
    assert conv.weight.var().item() == pytest.approx(2 / (9 * 128), rel=0.05)
    assert depthwise.weight.var().item() == pytest.approx(2 / 25, rel=0.05)
    assert not conv.bias.any()
