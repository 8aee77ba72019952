"""The training loss: cross-entropy on hard pixels, at label resolution."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from eseg_ros.training.config import LossConfig


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, C, h, w) at label size, (B, C, *size) float32: bilinear, half-pixel, as on the vehicle."""
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


class OhemCrossEntropy(torch.nn.Module):
    """Cross-entropy averaged over hard pixels (online hard example mining, Shrivastava et al. 2016).

    A pixel is hard while the probability of its class is below `config.threshold`; where fewer than
    `config.min_kept` of the labelled pixels are, the hardest that many count. Hardness is judged without class
    weights and smoothing, which only weigh what is kept. Computed in float32 whatever the autocast.
    """

    weights: Tensor | None

    def __init__(self, config: LossConfig, ignore_id: int) -> None:
        super().__init__()
        self._config = config
        self._ignore_id = ignore_id
        weights = None if config.class_weights is None else torch.tensor(config.class_weights)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar float32. logits (B, C, h, w) of any float type, label (B, H, W) uint8; 0 with nothing labelled."""
        with torch.autocast(logits.device.type, enabled=False):
            size = (label.shape[-2], label.shape[-1])
            log_probability = F.log_softmax(upsampled(logits, size), dim=1)  # (B, C, H, W)
            target = label.long()
            loss = F.nll_loss(log_probability, target, ignore_index=self._ignore_id, reduction="none")  # (B, H, W)
            weight = self._hard(loss.detach(), target).float()
            if self.weights is not None:
                weight = weight * self.weights[target.masked_fill(target == self._ignore_id, 0)]
            if self._config.label_smoothing > 0:
                share = self._config.label_smoothing
                loss = (1 - share) * loss - share * log_probability.mean(dim=1)
            return (weight * loss).sum() / weight.sum().clamp(min=1.0)

    def _hard(self, loss: Tensor, target: Tensor) -> Tensor:
        """Which pixels count, (B, H, W) bool."""
        labelled = target != self._ignore_id
        least = math.ceil(self._config.min_kept * int(labelled.sum()))
        hard = labelled & (loss > -math.log(self._config.threshold))
        if self._config.threshold == 1.0:
            return labelled
        if int(hard.sum()) >= least:
            return hard
        hardest = loss.masked_fill(~labelled, -1.0)
        bound = hardest.flatten().topk(least).values[-1]
        return labelled & (hardest >= bound)
