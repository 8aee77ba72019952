"""An engine's tensors: what its manifest says of them, in the form in which the libraries describe theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eseg_ros.engine.manifest import EngineManifest


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output as its library describes it; `dtype` is NumPy's name, `shape` may hold names."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {list(self.shape)}"


def input_shape(manifest: EngineManifest) -> tuple[int, int, int, int]:
    """Shape of the input tensor, (1, 3, height, width)."""
    return 1, 3, manifest.input.height, manifest.input.width


def output_shape(manifest: EngineManifest) -> tuple[int, int, int, int]:
    """Shape of the logits, (1, classes, height, width)."""
    return 1, len(manifest.classes), manifest.output.height, manifest.output.width


def expected_tensors(manifest: EngineManifest) -> tuple[TensorInfo, TensorInfo]:
    """The input and the output that the engine must have."""
    return (
        TensorInfo(manifest.input.name, manifest.input.dtype, input_shape(manifest)),
        TensorInfo(manifest.output.name, manifest.output.dtype, output_shape(manifest)),
    )


def in_words(tensors: Iterable[TensorInfo]) -> str:
    """Names, types and shapes, for an error."""
    return " and ".join(map(str, tensors)) or "missing"
