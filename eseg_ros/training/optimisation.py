"""Optimizers, learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from eseg_ros.training.config import OptimizerConfig

POLY_POWER = 0.9
"""Of the "poly" schedule, as DeepLab (arXiv 1606.00915, 4.1.1) and nearly all after it have it."""


def build_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The recipe's optimizer. Vectors and scalars (biases, norms, fusion weights) are not decayed."""
    fused = config.clip_norm == 0  # a fused step unscales fp16 gradients itself, too late for clipping them
    learning = {name: p for name, p in net.named_parameters() if p.requires_grad}
    encoder = [p for name, p in learning.items() if name.startswith("encoder.")]
    others = [p for name, p in learning.items() if not name.startswith("encoder.")]
    if config.encoder_lr == 1.0:
        encoder, others = [], list(learning.values())
    groups = [
        {"params": group, "weight_decay": decay, "lr": factor * config.lr}
        for parameters, factor in ((others, 1.0), (encoder, config.encoder_lr))
        for decay, group in (
            (config.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        )
        if group
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int, schedule: str = "cosine") -> float:
    """Share of the peak rate at a step, 0 based: linear up to 1 over the warm-up, then down to 0 by the schedule."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    if schedule == "poly":
        return float((1 - progress) ** POLY_POWER)
    return 0.5 * (1 + math.cos(math.pi * progress))


def ema_decay(updates: int, decay: float) -> float:
    """Decay of update number `updates`, 0 based: small at first, so that the random start is soon forgotten."""
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * net, for parameters and float buffers; counters are copied."""
    pairs = list(zip(_tensors(average), _tensors(net), strict=True))
    floats = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], 1 - decay)
    for mean, new in pairs:
        if not mean.is_floating_point():
            mean.copy_(new)


def _tensors(module: nn.Module) -> Iterable[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
