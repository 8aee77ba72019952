"""Adaptive pooling in an engine: PyTorch's windows at every size, in operators that every version of TensorRT reads."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eseg_ros.engine.export import to_onnx
from eseg_ros.engine.manifest import InputSpec
from eseg_ros.engine.pooling import windows
from eseg_ros.models.network import SegmentationNetwork

BINS = [1, 2, 3, 6, (2, 5)]
SIZES = [(1, 1), (2, 2), (3, 5), (6, 12), (7, 11), (12, 15), (16, 32), (32, 64)]
"""Rows and columns of the map that is pooled."""


class Pools(SegmentationNetwork):
    """All means of all windows of all sizes in one row: (B, C, 32, 64) -> (B, C, N)."""

    def __init__(self) -> None:
        super().__init__(stride=1)

    def forward(self, image: Tensor) -> Tensor:
        maps = [image[..., :height, :width] for height, width in SIZES]
        return torch.cat([F.adaptive_avg_pool2d(x, bins).flatten(2) for x, bins in product(maps, BINS)], dim=2)


def operators(network: SegmentationNetwork, width: int, height: int) -> tuple[onnx.ModelProto, list[str]]:
    """The network as a graph, and the names of its operators in order."""
    spec = InputSpec("image", width, height, mean=(0, 0, 0), std=(1, 1, 1))
    model = to_onnx(network.eval(), spec, "pools")
    return model, [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("length", "bins", "expected"),
    [
        (6, 1, [(0, 6)]),
        (6, 3, [(0, 2), (2, 4), (4, 6)]),
        (7, 3, [(0, 3), (2, 5), (4, 7)]),
        (32, 3, [(0, 11), (10, 22), (21, 32)]),
        (2, 6, [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2), (1, 2)]),
    ],
)
def test_windows_cover_a_length_and_overlap_where_it_does_not_divide(
    length: int, bins: int, expected: list[tuple[int, int]]
) -> None:
    assert windows(length, bins) == expected


def test_the_means_are_pytorchs_at_every_size() -> None:
    model, found = operators(Pools(), 64, 32)
    image = np.random.default_rng(0).normal(size=(1, 3, 32, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(None, {"image": image})[0], Pools()(torch.from_numpy(image)).numpy(), rtol=0, atol=1e-6
    )
    assert not {"MatMul", "ReduceMean"} & set(found)


class Pool(SegmentationNetwork):
    """One pooling of the whole image."""

    def __init__(self, bins: int) -> None:
        super().__init__(stride=1)
        self.bins = bins

    def forward(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(image, self.bins)


@pytest.mark.parametrize(
    ("height", "bins", "expected"),
    [
        (64, 1, ["GlobalAveragePool"]),
        (64, 2, ["AveragePool", "AveragePool"]),  # an axis each
        (64, 3, ["AveragePool", "AveragePool"]),  # windows that overlap, all alike
        (65, 3, ["AveragePool", "AveragePool", "Concat", "Gather", "AveragePool"]),  # 22, 23 and 22 rows
    ],
)
def test_a_pooling_is_a_handful_of_nodes(height: int, bins: int, expected: list[str]) -> None:
    assert [name for name in operators(Pool(bins), 96, height)[1] if name != "Constant"] == expected
