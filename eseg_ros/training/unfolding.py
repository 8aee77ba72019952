"""A trainable network out of an engine: the opposite of `SegmentationNetwork.deploy`.

An engine's convolutions have their batch normalization folded in. To learn, each needs one again, with the statistics
of its outputs, which an engine does not hold; they are measured on frames. Before the first step the network computes
what the engine computes, and as long as frames are like those, also in training mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eseg_ros.errors import UsageError
from eseg_ros.models.layers import ConstantSum, ConvNorm, FastNormalizedSum, SoftmaxSum
from eseg_ros.models.network import SegmentationNetwork

SMALLEST = 1e-12
"""Variances, norms and factors below it count as this: of channels that never answer."""

MOST = 100.0
"""A sum of weights above this cannot be told from the factors, which are rounded to float32."""


class Moments(NamedTuple):
    """Mean and variance of each channel, means over batches. (channels,) each."""

    mean: Tensor
    variance: Tensor


@torch.no_grad()
def unfolded_weights(
    network: SegmentationNetwork, folded: SegmentationNetwork, batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """The folded network's weights as those of its training form.

    A filter takes the norm of the one it replaces in `network`: behind batch normalization a filter's norm changes
    nothing but how fast it learns, and so it learns as a new one does.

    Args:
        network: the training form, freshly initialized; left as it is.
        folded: what `network.deploy` would give, with trained weights.
        batches: normalized images (B, 3, H, W) as training will show them, at least one batch.

    Returns:
        Name -> value for the entries of `network` that the folded one says something about; the heads that only
        training needs are not among them.

    Raises:
        UsageError: no batches.
    """
    layers = dict(folded.named_modules())
    convolutions = {
        name: (module, layer)
        for name, module in network.named_modules()
        if isinstance(module, ConvNorm) and isinstance(layer := layers.get(name), nn.Conv2d)
    }
    moments = _output_moments(folded, {name: layer for name, (_, layer) in convolutions.items()}, batches)
    own = network.state_dict()
    weights = {name: value for name, value in folded.state_dict().items() if name in own}
    for name, (module, layer) in convolutions.items():
        parts = _unfolded_convolution(module, layer, moments[name])
        weights |= {f"{name}.{part}": value for part, value in parts.items()}
    for name, module in network.named_modules():
        if isinstance(module, FastNormalizedSum | SoftmaxSum) and isinstance(layer := layers.get(name), ConstantSum):
            weights[f"{name}.weight"] = _unfolded_sum(module, layer)
    return {name: weights[name] for name in own if name in weights}


def _output_moments(
    folded: nn.Module, convolutions: Mapping[str, nn.Module], batches: Iterable[Tensor]
) -> dict[str, Moments]:
    """Moments of what each convolution gives, its bias included."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(name: str, output: Tensor) -> None:
        variance, mean = torch.var_mean(output, dim=(0, 2, 3), correction=0)
        before = sums.get(name, (torch.zeros_like(mean), torch.zeros_like(variance)))
        sums[name] = (before[0] + mean, before[1] + variance)

    handles = [
        convolution.register_forward_hook(lambda _module, _inputs, output, name=name: add(name, output))
        for name, convolution in convolutions.items()
    ]
    count = 0
    try:
        for images in batches:
            folded(images)
            count += 1
    finally:
        for handle in handles:
            handle.remove()
    if count == 0:
        raise UsageError("an engine's statistics are measured on frames, and there are none; expected at least a batch")
    return {name: Moments(mean / count, variance / count) for name, (mean, variance) in sums.items()}


def _unfolded_convolution(module: ConvNorm, folded: nn.Conv2d, moments: Moments) -> dict[str, Tensor]:
    """Entries of `module` with which it computes what `folded` does."""
    assert folded.bias is not None
    norms = [weight.flatten(1).norm(dim=1).clamp_min(SMALLEST) for weight in (module.conv.weight, folded.weight)]
    scale = norms[0] / norms[1]  # (out,)
    variance = (moments.variance * scale.square()).clamp_min(SMALLEST)
    return {
        "conv.weight": folded.weight * scale.view(-1, 1, 1, 1),
        "norm.weight": torch.sqrt(variance + module.norm.eps) / scale,
        "norm.bias": moments.mean.clone(),
        "norm.running_mean": (moments.mean - folded.bias) * scale,
        "norm.running_var": variance,
        "norm.num_batches_tracked": torch.zeros((), dtype=torch.long),
    }


def _unfolded_sum(module: FastNormalizedSum | SoftmaxSum, folded: ConstantSum) -> Tensor:
    """Weights that `module` normalizes to the factors of `folded`."""
    factors = torch.stack([folded.get_buffer(f"factor{index}") for index in range(folded.num_inputs)])
    if isinstance(module, SoftmaxSum):
        return factors.clamp_min(SMALLEST).log()
    # Factors are w / (sum of w + EPS), so that 1 - their sum is EPS / (sum of w + EPS).
    return factors * (module.EPS / (1 - factors.double().sum()).clamp_min(module.EPS / MOST)).float()
