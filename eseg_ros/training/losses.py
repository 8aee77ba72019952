"""The training loss: cross-entropy on hard pixels at label resolution, and for networks that learn edges, theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from eseg_ros.models.network import Supervised
from eseg_ros.training.config import LossConfig

EDGE_RADIUS = 2
"""Pixels this near to another class are edges."""

EDGE_WEIGHT = 0.3
ON_EDGES_WEIGHT = 0.1
EDGE_CONFIDENCE = 0.8
"""Predicted probability above which a pixel is trusted to be an edge.

Weights and threshold are MFARANet's; the two losses come from Gated-SCNN (arXiv 1907.05740, 3.2).
"""


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


class SupervisionLoss(torch.nn.Module):
    """The loss of all that a network gives while training: a weighted sum over its `Supervised` outputs.

    Each has the cross-entropy of its scores on hard pixels; one with edges also the loss of these, and that of its
    scores where it sees edges.
    """

    def __init__(self, config: LossConfig, ignore_id: int) -> None:
        super().__init__()
        self._ignore_id = ignore_id
        self.cross_entropy = OhemCrossEntropy(config, ignore_id)

    def forward(self, outputs: Sequence[Supervised], label: Tensor) -> Tensor:
        """Scalar float32. label (B, H, W) uint8."""
        terms = []
        for scores, weight, edges in outputs:
            loss = self.cross_entropy(scores, label)
            if edges is not None:
                loss = loss + EDGE_WEIGHT * edge_loss(edges, label, self._ignore_id)
                loss = loss + ON_EDGES_WEIGHT * loss_on_edges(scores, edges, label, self._ignore_id)
            terms.append(weight * loss)
        return torch.stack(terms).sum()


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's class probabilities are from the teacher's, over all pixels (Hinton et al. 2015).

    Kullback-Leibler divergence at a temperature T, times T^2, so that its gradients do not fade as T grows; scalar
    float32. Scores (B, C, h, w) of the student, (B, C, h', w') of the teacher, which are resized to the student's.
    """
    with torch.autocast(student.device.type, enabled=False):
        wanted = upsampled(teacher, (student.shape[-2], student.shape[-1])) / temperature
        given = F.log_softmax(student.float() / temperature, dim=1)
        divergence = F.kl_div(given, F.log_softmax(wanted, dim=1), reduction="none", log_target=True).sum(dim=1)
        return divergence.mean() * temperature**2


def class_edges(label: Tensor, ignore_id: int) -> Tensor:
    """Where two classes meet: pixels within EDGE_RADIUS of another class. (B, H, W) uint8 -> (B, H, W) bool.

    Ignored pixels are no class: they make no edge and are none.
    """
    labelled = label != ignore_id
    ids = label.float()
    window = 2 * EDGE_RADIUS + 1
    highest = F.max_pool2d(ids.masked_fill(~labelled, -1.0), window, stride=1, padding=EDGE_RADIUS)
    lowest = -F.max_pool2d(-ids.masked_fill(~labelled, 256.0), window, stride=1, padding=EDGE_RADIUS)
    return labelled & (highest != lowest)


def edge_loss(edges: Tensor, label: Tensor, ignore_id: int) -> Tensor:
    """Binary cross-entropy of edge logits, balanced: edges and the rest weigh alike, however few edges there are.

    Scalar float32. edges (B, 1, h, w), label (B, H, W) uint8; 0 with nothing labelled.
    """
    with torch.autocast(edges.device.type, enabled=False):
        logits = upsampled(edges, (label.shape[-2], label.shape[-1]))[:, 0]  # (B, H, W)
        target, labelled = class_edges(label, ignore_id), label != ignore_id
        count = labelled.sum().clamp(min=1)
        share = target.sum() / count
        weight = torch.where(target, 1 - share, share) * labelled
        loss = F.binary_cross_entropy_with_logits(logits, target.float(), weight, reduction="sum")
        return loss / count


def loss_on_edges(scores: Tensor, edges: Tensor, label: Tensor, ignore_id: int) -> Tensor:
    """Cross-entropy of scores (B, C, h, w) where edge logits (B, 1, h, w) are sure of an edge; else 0.

    Scalar float32. label (B, H, W) uint8. The edges decide where, and learn nothing from it.
    """
    with torch.autocast(scores.device.type, enabled=False):
        size = (label.shape[-2], label.shape[-1])
        sure = upsampled(edges.detach(), size)[:, 0].sigmoid() > EDGE_CONFIDENCE
        target = label.long().masked_fill(~sure, ignore_id)
        loss = F.cross_entropy(upsampled(scores, size), target, ignore_index=ignore_id, reduction="sum")
        return loss / (target != ignore_id).sum().clamp(min=1)
