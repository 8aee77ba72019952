"""Adaptive average pooling as ONNX knows it: the windows are those of the map's size, known at export.

Left to itself, PyTorch's exporter gathers every window's elements, or writes ReduceMean. That one TensorRT 8 misreads:
its axes are an input from opset 18 on, which the parser overlooks, and it takes the mean of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def adaptive_avg_pool2d(x: Any, output_size: Sequence[int]) -> Any:
    """`aten.adaptive_avg_pool2d` in operators of opset 18; for the exporter's `custom_translation_table`.

    Args:
        x: the exporter's (B, C, H, W), H and W known.
        output_size: rows and columns.

    Returns:
        The exporter's (B, C, *output_size).
    """
    from onnxscript import opset18

    if tuple(output_size) == (1, 1):
        return opset18.GlobalAveragePool(x)
    sizes = x.shape[-2:]
    for axis, length, bins in zip((2, 3), sizes, output_size, strict=True):
        x = _window_means(x, axis, length, bins)
    return x


def windows(length: int, bins: int) -> list[tuple[int, int]]:
    """First index and end of each window, from floor(i L / b) to ceil((i + 1) L / b) as PyTorch has them."""
    return [(index * length // bins, -(-(index + 1) * length // bins)) for index in range(bins)]


def _window_means(x: Any, axis: int, length: int, bins: int) -> Any:
    """Means along axis 2 or 3.

    Windows of one size at equal distances are one pooling. Others are looked up among the means at every position,
    pooled once for each size; there are at most two.
    """
    from onnxscript import opset18

    def averages(size: int, stride: int) -> Any:
        kernel, strides = ((size, 1), (stride, 1)) if axis == 2 else ((1, size), (1, stride))
        return opset18.AveragePool(x, kernel_shape=kernel, strides=strides)

    bounds = windows(length, bins)
    size, step = bounds[0][1], bounds[1][0] if bins > 1 else 1
    if step and bounds == [(index * step, index * step + size) for index in range(bins)]:
        return averages(size, step)
    sizes = sorted({end - start for start, end in bounds})
    first = {size: index * (length - sizes[0] + 1) for index, size in enumerate(sizes)}
    everywhere = opset18.Concat(*(averages(size, 1) for size in sizes), axis=axis)
    return opset18.Gather(everywhere, [first[end - start] + start for start, end in bounds], axis=axis)
