"""A larger network that starts as a smaller one of its family (after Net2Net, arXiv 1511.05641).

What the smaller network computes, the larger one computes from its first step on, as far as their structures agree:
wider layers hold the narrower ones in their first channels, which do not see the new channels yet; blocks and cells
of the pyramid that the smaller one lacks pass on what they get. New channels have their random start, so that they
learn something else.

A variant may also lack something, which is then lost: kernels are laid center on center, so that a smaller one has no
border, and pyramid levels that the network does not have are left out. Weighted sums of another number of levels keep
their start.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from eseg_ros.models.bifpn import BiFPNCell, BiFPNNode
from eseg_ros.models.layers import ConvNorm, WeightedSum
from eseg_ros.training.checkpoint import CheckpointError
from eseg_ros.training.start import Start

PASSED_MEAN, PASSED_STD = 3.0, 0.75
"""What a cell that passes on gets: four deviations from either end of a ReLU6, where activations change nothing."""

CELL_NODES = re.compile(r"bifpn\.(\d+)\.nodes\.")
"""Entries of a cell's nodes; its laterals fit the encoder, and stay with the first cell."""

NEIGHBOR = 0.03
"""Weight of a neighboring level in a node that passes on its own, which has 1: enough to learn from."""


@torch.no_grad()
def grow_from(net: nn.Module, start: Start) -> list[str]:
    """Gives `net` the weights of another network of its family that is no wider and no deeper.

    Args:
        net: freshly initialized.
        start: the other network's.

    Returns:
        Names of the entries of `net` that the other one says nothing about.

    Raises:
        CheckpointError: the other network is not within `net`.
    """
    given, own = start.weights, net.state_dict()
    cells = [module for module in net.modules() if isinstance(module, BiFPNCell)]
    new_cells = max(0, len(cells) - len({match[1] for name in given if (match := CELL_NODES.match(name))}))
    given = {_moved(name, new_cells): w for name, w in given.items()}
    sums = _sums(net)
    given = {name: w for name, w in given.items() if name not in sums or (name in own and own[name].shape == w.shape)}
    given = {name: w for name, w in given.items() if name in own or not name.startswith("bifpn.")}
    wrong = next((name for name, w in given.items() if name not in own or not _within(w, own[name])), None)
    if wrong is not None:
        found = tuple(own[wrong].shape) if wrong in own else "nothing"
        raise CheckpointError(
            f"{start.path}: its {wrong} has shape {tuple(given[wrong].shape)}, this model has {found} there; grow from "
            "a narrower or shallower model of the same family and classes"
        )
    for name, value in given.items():
        _embed(value, own[name])  # a state_dict shares the network's memory
    for name, module in net.named_modules():
        if getattr(module, "residual", False) and not any(entry.startswith(f"{name}.") for entry in given):
            _pass_on(module)
    if new_cells:
        _pass_levels_on(cells[:new_cells])
    return [name for name in own if name not in given]


def _sums(net: nn.Module) -> set[str]:
    """Names of the weights of weighted sums, whose length is the number of inputs."""
    return {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, WeightedSum)}


def _within(given: Tensor, own: Tensor) -> bool:
    """Channels may grow; kernels, all of odd sizes, may change."""
    channels = min(given.ndim, 2)
    return given.ndim == own.ndim and all(
        small <= large for small, large in zip(given.shape[:channels], own.shape[:channels], strict=True)
    )


def _embed(given: Tensor, own: Tensor) -> None:
    if given.ndim == 0:
        own.copy_(given)
        return
    old = own[: given.shape[0]]
    if given.ndim > 1:
        old[:, given.shape[1] :] = 0  # old channels do not see new ones
        old = old[:, : given.shape[1]]
    if old.shape[2:] != given.shape[2:]:
        old.zero_()
        for axis in range(2, given.ndim):
            common = min(old.shape[axis], given.shape[axis])
            old, given = _center(old, axis, common), _center(given, axis, common)
    old.copy_(given)


def _center(kernels: Tensor, axis: int, length: int) -> Tensor:
    """The middle `length` of an axis."""
    return kernels.narrow(axis, (kernels.shape[axis] - length) // 2, length)


def _pass_on(block: nn.Module) -> None:
    """Silences the branch of a residual block: the last normalization of it gives zeros."""
    last = [layer for layer in block.modules() if isinstance(layer, ConvNorm)][-1]
    nn.init.zeros_(last.norm.weight)


def _moved(name: str, cells: int) -> str:
    """A name in the network that has `cells` new ones in front."""
    return CELL_NODES.sub(lambda match: f"bifpn.{int(match[1]) + cells}.nodes.", name)


def _pass_levels_on(cells: list[BiFPNCell]) -> None:
    """Makes the first cells of a pyramid pass every level on as the laterals give it.

    Activations would cut negative values off. So the laterals' normalizations give each channel the mean PASSED_MEAN
    and the deviation PASSED_STD, and the last cell's give it back the ones it had.
    """
    for level, lateral in cells[0].laterals.items():
        assert isinstance(lateral, ConvNorm)
        mean, std = lateral.norm.bias.clone(), lateral.norm.weight.clone()
        nn.init.constant_(lateral.norm.weight, PASSED_STD)
        nn.init.constant_(lateral.norm.bias, PASSED_MEAN)
        for cell in cells:
            for column in ("top_down", "out"):
                if f"{column}{level}" not in cell.nodes:
                    continue  # the ends of the pyramid
                node = cell.nodes[f"{column}{level}"]
                assert isinstance(node, BiFPNNode)
                _pass_own_on(node)
                if column == "out" and cell is cells[-1]:
                    node.conv.pointwise.norm.weight.copy_(std)
                    node.conv.pointwise.norm.bias.copy_(mean)


def _pass_own_on(node: BiFPNNode) -> None:
    """Makes a node give its own level, its first input, of PASSED_MEAN and PASSED_STD."""
    share = node.fuse.weight
    nn.init.constant_(share, NEIGHBOR)
    share[0] = 1
    nn.init.dirac_(node.conv.depthwise.weight, groups=node.conv.depthwise.groups)
    nn.init.dirac_(node.conv.pointwise.conv.weight)
    norm = node.conv.pointwise.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.constant_(norm.running_mean, PASSED_MEAN)
    nn.init.constant_(norm.running_var, (PASSED_STD * float(node.fuse.normalized()[0])) ** 2)
    nn.init.constant_(norm.weight, PASSED_STD)
    nn.init.constant_(norm.bias, PASSED_MEAN)
