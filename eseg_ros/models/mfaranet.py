"""MFARANet (arXiv 2402.02286): four stages are aligned, answer side by side, and each pixel weighs their answers.

    ResNet-18 -> MFAM: every stage gathers from all others
              -> RAM:  the coarse stages are warped, stage by stage, onto the finest
              -> ASFM: the sum of the stages' scores, each times an attention of its own

Unlike the authors, who align corners, this resizes and warps by half-pixel centers as all of this package does, so
that a flow of zero is the bilinear resize.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eseg_ros.models.layers import OutputConv, conv_norm_relu, initialize_convolutions, resized
from eseg_ros.models.network import SegmentationNetwork, Supervised, check_image
from eseg_ros.models.resnet import STAGE_CHANNELS, ResNet18

CHANNELS = 128  # of every stage behind the encoder
STAGES = len(STAGE_CHANNELS)
DROPOUT = 0.5
PRUNED_STAGE = 1  # the second: the one that the pruned form asks


class Mfaranet(SegmentationNetwork):
    """MFARANet with heads for `num_classes` classes.

    Training supervises the fused scores and, together with edges, those of every stage.

    Args:
        num_classes: channels of the scores.
        pruned: trained alike, but inference is the second stage's score alone ("MFARANet-Pruned" in the paper).
    """

    # A warp multiplies what rounds in a flow by the features' slope: 2e-6 with flows up to 5 pixels, 1.4e-5 up to 25.
    rounding = 1e-4

    def __init__(self, num_classes: int, *, pruned: bool = False) -> None:
        super().__init__(stride=4)
        self.pruned = pruned
        self.encoder = ResNet18()
        self.aggregate = MultiLevelAggregation()
        self.align = RecursiveAlignment()
        self.classify = nn.ModuleList(OutputConv(CHANNELS, num_classes) for _ in range(STAGES))
        self.attend = nn.ModuleList(
            nn.Sequential(
                conv_norm_relu(CHANNELS, CHANNELS // 2, 3),
                nn.Dropout(DROPOUT),
                OutputConv(CHANNELS // 2, num_classes, bias=False),
                nn.Sigmoid(),
            )
            for _ in range(STAGES)
        )
        self.auxiliary.extend(OutputConv(CHANNELS, 1) for _ in range(STAGES))  # edges
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """See the base."""
        features = self._aligned(image)
        if self.pruned:
            scores: Tensor = self.classify[PRUNED_STAGE](features[PRUNED_STAGE])  # (B, classes, H/4, W/4)
            return scores
        return self._fused(features, self._scores(features))

    def supervised(self, image: Tensor) -> list[Supervised]:
        """See the base."""
        features = self._aligned(image)
        scores = self._scores(features)
        stages = [
            Supervised(score, weight=1.0, edges=edges(x))
            for score, edges, x in zip(scores, self.auxiliary, features, strict=True)
        ]
        return [Supervised(self._fused(features, scores), weight=1.0), *stages]

    def inference_form(self) -> Mfaranet:
        """See the base."""
        network = super().inference_form()
        if self.pruned:
            del network.aggregate.bottom_up[1:], network.aggregate.fuse[1:], network.align.flows[1:]
            del network.classify[PRUNED_STAGE + 1 :]
            network.classify[0] = nn.Identity()
            network.attend = nn.ModuleList()
        return network

    def _aligned(self, image: Tensor) -> list[Tensor]:
        """The stages' features at the first one's size. (B, 3, H, W) -> 4 x (B, 128, H/4, W/4), 2 where pruned."""
        check_image(image)
        features: list[Tensor] = self.align(self.aggregate(self.encoder(image)))
        return features

    def _scores(self, features: Sequence[Tensor]) -> list[Tensor]:
        """4 x (B, 128, h, w) -> 4 x (B, classes, h, w)."""
        return [classify(x) for classify, x in zip(self.classify, features, strict=True)]

    def _fused(self, features: Sequence[Tensor], scores: Sequence[Tensor]) -> Tensor:
        """Adaptive score fusion, ASFM. 4 x (B, 128, h, w) and 4 x (B, classes, h, w) -> (B, classes, h, w)."""
        first, *others = (score * attend(x) for score, attend, x in zip(scores, self.attend, features, strict=True))
        total: Tensor = sum(others, first)
        return total


class MultiLevelAggregation(nn.Module):
    """MFAM: a path from coarse to fine and one from fine to coarse, both from the same laterals, then their sum.

    Only the inner stages sum the two: the first has been reached by the path down alone, the last by the path up.
    With fewer layers in `bottom_up` and `fuse` the coarse stages are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_norm_relu(channels, CHANNELS) for channels in STAGE_CHANNELS)
        self.top_down = nn.ModuleList(conv_norm_relu(CHANNELS, CHANNELS, 3) for _ in range(STAGES - 1))
        self.bottom_up = nn.ModuleList(conv_norm_relu(CHANNELS, CHANNELS, 3) for _ in range(STAGES - 1))
        self.fuse = nn.ModuleList(conv_norm_relu(CHANNELS, CHANNELS, 3) for _ in range(STAGES - 2))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """4 x (B, 64 to 512, H/4 to H/32, W/4 to W/32) -> 4 x (B, 128, as before)."""
        laterals = [lateral(x) for lateral, x in zip(self.laterals, stages, strict=True)]
        down = laterals[-1:]
        for conv, x in zip(self.top_down, laterals[-2::-1], strict=True):
            down.insert(0, conv(x + resized(down[0], x.shape[-2:])))
        up = laterals[:1]
        for conv, x in zip(self.bottom_up, laterals[1:], strict=False):
            up.append(conv(x + resized(up[-1], x.shape[-2:])))
        inner = [conv(d + u) for conv, d, u in zip(self.fuse, down[1:], up[1:], strict=False)]
        return [down[0], *inner, *up[STAGES - 1 :]]


class RecursiveAlignment(nn.Module):
    """RAM: between every two neighboring stages a flow, along which all coarser stages are warped."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = nn.ModuleList(Flow() for _ in range(STAGES - 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, H/4 to H/32, W/4 to W/32) each -> (B, C, H/4, W/4) each: for four stages, six warps."""
        aligned = list(features)
        for stage in reversed(range(len(self.flows))):
            grid = self.flows[stage](features[stage], features[stage + 1])
            aligned[stage + 1 :] = [warp(x, grid) for x in aligned[stage + 1 :]]
        return aligned


class Flow(nn.Module):
    """Where each pixel of a stage finds its counterpart in the next coarser stage."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(CHANNELS, CHANNELS // 2, 1, bias=False)
        self.coarse = nn.Conv2d(CHANNELS, CHANNELS // 2, 1, bias=False)
        self.flow = OutputConv(CHANNELS, 2, 3, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, h/2, w/2) -> sampling positions (B, h, w, 2) float32: x and y, -1 to 1 over the map."""
        height, width = fine.shape[-2:]
        features = torch.cat([self.fine(fine), resized(self.coarse(coarse), (height, width))], dim=1)
        # Positions must be float32 whatever the autocast: bf16 knows 256 of them.
        x, y = self.flow(features).float().unbind(dim=1)  # (B, h, w) each, in halves of a pixel
        columns, rows = _pixel_centers(width, fine.device), _pixel_centers(height, fine.device)
        return torch.stack([columns + x / width, rows[:, None] + y / height], dim=-1)


def _pixel_centers(count: int, device: torch.device) -> Tensor:
    """Positions of pixel centers on an axis that goes from -1 at the first pixel's outer edge to 1. (count,)."""
    return (torch.arange(count, device=device, dtype=torch.float32) * 2 + 1) / count - 1


def warp(x: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of x. (B, C, h, w) at (B, H, W, 2) -> (B, C, H, W); outside, the border goes on."""
    samples = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return samples.to(x.dtype)
