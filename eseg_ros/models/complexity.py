"""Size and cost of a network, counted as the papers do."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eseg_ros.models.zoo import build_model


class Cost(NamedTuple):
    """What a network of the table costs in inference.

    Attributes:
        parameters: see `count_parameters`.
        macs: see `count_macs`.
        stride: pixels of the image from one score to the next.
    """

    parameters: int
    macs: int
    stride: int


def model_cost(name: str, num_classes: int, height: int, width: int) -> Cost:
    """The cost of the network called `name`, without what only training needs, for images of height x width.

    Raises:
        ValueError: no such network, too few classes, or an image smaller than 64x64.
    """
    with torch.device("meta"):
        network = build_model(name, num_classes).inference_form()
    return Cost(count_parameters(network), count_macs(network, height, width), network.stride)


def count_parameters(module: nn.Module) -> int:
    """Trained numbers: weights, biases and batch normalization's two a channel, not its statistics."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, height: int, width: int, *, include_batch_norm: bool = False) -> int:
    """Multiply-adds for one (3, height, width) image; papers print them as "FLOPs".

    Counted are convolutions and linear layers without their biases; weighted sums, activations, pooling and
    resizing are not. The network runs as a copy on the meta device: nothing is computed and no feature
    map takes memory.

    Args:
        module: a network that takes (B, 3, height, width).
        height: pixels.
        width: pixels.
        include_batch_norm: count one multiply-add an element for batch normalization, as a graph has it that
            is not folded for inference. Counted so, ESeg-S, M and L come within 1 % of the paper's figures
            (without it 1.0 to 1.9 % below them); ESeg-Lite-S does without it (1.2 % above with it).
    """
    total = 0

    def add_macs(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.BatchNorm2d):
            total += output.numel()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            total += output.numel() * layer.weight[0].numel()

    network = copy.deepcopy(module).to("meta").eval()
    counted = (nn.Conv2d, nn.Linear, nn.BatchNorm2d) if include_batch_norm else (nn.Conv2d, nn.Linear)
    for layer in network.modules():
        if isinstance(layer, counted):
            layer.register_forward_hook(add_macs)
    with torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return total
