"""What every network here is to the trainer, the exporter and the tests."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from eseg_ros.errors import UsageError
from eseg_ros.models.layers import deployed_copy

MIN_INPUT_SIZE = 64  # pixels

AUXILIARY_WEIGHT = 0.4
"""Of the loss of a head that only training has, as in Fast-SCNN (arXiv 1902.04502)."""

AnyNetwork = TypeVar("AnyNetwork", bound="SegmentationNetwork")


class Supervised(NamedTuple):
    """Scores that training compares with the label, see `eseg_ros.training.losses.SupervisionLoss`.

    Attributes:
        scores: (B, classes, h, w).
        weight: factor of their loss.
        edges: (B, 1, h, w), logits of "the border of a class runs here"; None where no edges are learned.
    """

    scores: Tensor
    weight: float
    edges: Tensor | None = None


class SegmentationNetwork(nn.Module):
    """A network from an image to class scores.

    A family defines `forward` and, where training looks at more than the scores, `supervised`. What only
    `supervised` needs it keeps in `auxiliary`, which no engine holds.

    Attributes:
        stride: pixels of the image from one score to the next.
        auxiliary: heads that only training needs.
        rounding: by how much float32 libraries may differ in a score, as a share of the largest score. The order of
            sums alone gives 1e-6 to 2e-6; a wrong padding, resize rule or weight, or a library that computes in bf16,
            gives 1e-3 and more. An engine that differs by more than this is not written.
    """

    rounding = 1e-5

    def __init__(self, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.auxiliary = nn.ModuleList()

    def forward(self, image: Tensor) -> Tensor:
        """Class scores. (B, 3, H, W) normalized RGB -> (B, classes, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: not a batch of three-channel images of at least 64x64.
        """
        raise NotImplementedError

    def supervised(self, image: Tensor) -> Sequence[Supervised]:
        """All that the loss is made of: the scores of `forward`, then what `auxiliary` adds. (B, 3, H, W)."""
        return [Supervised(self(image), weight=1.0)]

    def inference_form(self: AnyNetwork) -> AnyNetwork:
        """A copy without what only training needs; its parameters are those that papers count."""
        network = copy.deepcopy(self)
        network.auxiliary = nn.ModuleList()
        return network

    def deploy(self: AnyNetwork) -> AnyNetwork:
        """A frozen copy for inference with the same outputs as this network in eval mode.

        Batch normalization is folded into the convolutions, fusion weights are constants, what only training needs
        is gone. Its `state_dict` holds only convolutions' weights and biases and the constants, and names them as
        an exported graph names its initializers, unless an optimizer merges equal ones.
        """
        return deployed_copy(self.inference_form())


def check_image(image: Tensor) -> None:
    """Refuses what no network here takes.

    Raises:
        ValueError: not a batch of three-channel images of at least 64x64.
    """
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"image has shape {shape}; expected (batch, 3, height, width)")
    if min(shape[2:]) < MIN_INPUT_SIZE:
        raise UsageError(
            f"image is {shape[2]}x{shape[3]} pixels (height x width); "
            f"expected at least {MIN_INPUT_SIZE}x{MIN_INPUT_SIZE}; enlarge or pad it first"
        )
