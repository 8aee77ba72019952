"""Layers that every network here is made of, and how each one looks once training is over.

A layer whose inference form differs from its training form has a method `deployed` that returns the
inference form; `deployed_copy` swaps them throughout a network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01  # torch's convention; the EfficientNet paper writes it 0.99

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@runtime_checkable
class Deployable(Protocol):
    """A layer with a simpler form for inference."""

    def deployed(self) -> nn.Module:
        """The layer that computes in inference what this one computes in eval mode."""
        ...


def deployed_copy(network: AnyModule) -> AnyModule:
    """A frozen copy of `network` in eval mode with every `Deployable` layer in its inference form."""
    network = copy.deepcopy(network).eval()
    _deploy_children(network)
    return network.requires_grad_(False)


def _deploy_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Deployable):
            setattr(module, name, child.deployed())
        else:
            _deploy_children(child)


class ConvNorm(nn.Module):
    """Convolution without bias, padded to ceil(size / stride), then batch normalization."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        if self.training and x.device.type == "cpu" and self.conv.groups > 1 and max(self.conv.dilation) > 1:
            # With channels last, of weights or images, PyTorch 2.13 reads this layer's gradient in bf16 from memory
            # that nobody wrote.
            with torch.autocast("cpu", enabled=False):
                x = self.conv(x.float())
        else:
            x = self.conv(x)
        x = self.norm(x)
        return x

    def deployed(self) -> nn.Conv2d:
        """One convolution with bias: the normalization's running statistics are folded into it."""
        conv, norm = self.conv, self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            # In double: the factors are rounded once, when the folded weights are stored.
            gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = conv.weight.double() * gain.view(-1, 1, 1, 1)
            bias = norm.bias.double() - norm.running_mean.double() * gain
        folded = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            stride=(conv.stride[0], conv.stride[1]),
            padding=(int(conv.padding[0]), int(conv.padding[1])),
            dilation=(conv.dilation[0], conv.dilation[1]),
            groups=conv.groups,
            device="meta",  # its weights are replaced at once
        )
        folded.weight = nn.Parameter(weight.to(conv.weight.dtype))
        folded.bias = nn.Parameter(bias.to(conv.weight.dtype))
        return folded


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1) -> nn.Sequential:
    """`ConvNorm`, then ReLU. (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
    return nn.Sequential(ConvNorm(in_channels, out_channels, kernel, stride=stride), nn.ReLU())


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size): bilinear with half-pixel centers, as everywhere in training and on the vehicle."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then pointwise 1x1 and batch normalization."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = ConvNorm(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        x = self.pointwise(self.depthwise(x))
        return x


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole samples while training (Huang et al. 2016; "drop connect" in EfficientNet).

    Survivors are scaled up so that the expectation stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), any shape kept."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * (x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep) / keep)

    def deployed(self) -> nn.Identity:
        """Nothing: inference keeps every branch."""
        return nn.Identity()


class WeightedSum(nn.Module):
    """Sum of equally shaped tensors with one learned weight each; subclasses say how weights are normalized."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_inputs))

    def normalized(self) -> Tensor:
        """The factors of the sum. (num_inputs,)."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """num_inputs x (B, C, H, W) -> (B, C, H, W)."""
        return _weighted_sum(inputs, self.normalized().unbind())

    def deployed(self) -> ConstantSum:
        """The same sum with the factors as they are now."""
        return ConstantSum(self.normalized().detach())


class FastNormalizedSum(WeightedSum):
    """Factors relu(w) / (sum of relu(w) + EPS): EfficientDet's fast normalized fusion (arXiv 1911.09070, 3.3)."""

    EPS = 1e-4

    def normalized(self) -> Tensor:
        """See the class. (num_inputs,)."""
        weight = torch.relu(self.weight)
        return weight / (weight.sum() + self.EPS)


class SoftmaxSum(WeightedSum):
    """Factors softmax(w): ESeg's multi-scale fusion (arXiv 2203.12683)."""

    def normalized(self) -> Tensor:
        """See the class. (num_inputs,)."""
        return torch.softmax(self.weight, dim=0)


class ConstantSum(nn.Module):
    """Sum with constant factors. Each is a buffer of its own, so that an exported graph holds it by its name."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.num_inputs = len(factors)
        for index, factor in enumerate(factors.unbind()):
            self.register_buffer(f"factor{index}", factor.clone())

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """num_inputs x (B, C, H, W) -> (B, C, H, W)."""
        return _weighted_sum(inputs, [self.get_buffer(f"factor{index}") for index in range(self.num_inputs)])


def _weighted_sum(inputs: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    if len(inputs) != len(factors):
        raise ValueError(f"got {len(inputs)} tensors to sum with {len(factors)} weights; give one tensor a weight")
    total = inputs[0] * factors[0]
    for tensor, factor in zip(inputs[1:], factors[1:], strict=True):
        total = total + tensor * factor
    return total


class OutputConv(nn.Conv2d):
    """A convolution whose outputs are read as they are: class scores, edges, a flow.

    `initialize_convolutions` starts it near zero, so that no class is favored before a pixel has been seen.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)


def initialize_convolutions(network: nn.Module) -> None:
    """Normal weights with variance 2 / fan-out, as EfficientNet's reference code does, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=0.01 if isinstance(module, OutputConv) else math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
