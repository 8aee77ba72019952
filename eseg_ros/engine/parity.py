"""Does an engine compute what PyTorch computes? Compared on real frames, in every library that will run it here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import read_frame
from eseg_ros.engine.manifest import InputSpec
from eseg_ros.errors import EngineError, RuntimeUnavailableError
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.types import Image8

if TYPE_CHECKING:
    from eseg_ros.models.network import SegmentationNetwork

FRAMES = 4
AGREEMENT = 0.9999  # share of equal argmax: only near ties may fall otherwise, of a small engine's scores one

Tensor32 = npt.NDArray[np.float32]


def parity_inputs(spec: InputSpec, data: Path | None) -> list[Tensor32]:
    """A few camera frames as the engine sees them: spread over `data`'s `val` split, or rendered ones.

    Returns:
        (1, 3, height, width) arrays.

    Raises:
        DataError: `data` has no readable frames.
    """
    preprocess = Preprocessor(spec)
    tensors = []
    for image in _images(spec, data):
        tensor = np.zeros((1, 3, spec.height, spec.width), np.float32)
        preprocess(image, tensor)
        tensors.append(tensor)
    return tensors


def _images(spec: InputSpec, data: Path | None) -> Iterator[Image8]:
    """FRAMES images, (H, W, 3) BGR."""
    if data is None:
        from eseg_ros.rendering.renderer import render_frame

        yield from (render_frame(seed, spec.width, spec.height).image for seed in range(FRAMES))
        return
    samples = list_samples(data, "val", find_layout(data), labels="unused")
    for index in np.linspace(0, len(samples) - 1, FRAMES).astype(int):
        yield decode(read_frame(samples[index].image))


def check_parity(onnx: bytes, reference: SegmentationNetwork, images: list[Tensor32]) -> dict[str, Any]:
    """Compare the graph with `reference` in OpenVINO and ONNX Runtime, whichever are installed, in float32.

    Args:
        onnx: a serialized model with all its weights.
        reference: the PyTorch network, in eval mode; its `rounding` says how near an engine must come.
        images: (1, 3, H, W) inputs.

    Returns:
        What was compared and found, for the manifest.

    Raises:
        EngineError: the outputs differ.
        RuntimeUnavailableError: none of the libraries is installed.
    """
    import torch

    runners = {name: open_onnx for name, open_onnx in _RUNNERS.items() if find_spec(name)}
    if not runners:
        raise RuntimeUnavailableError(
            "an engine is compared with PyTorch before it is written, in OpenVINO or ONNX Runtime; neither is "
            "installed: pip install openvino onnxruntime"
        )
    with torch.inference_mode():
        expected = np.concatenate([reference(torch.from_numpy(image)).numpy() for image in images])
    largest = float(np.abs(expected).max())
    report: dict[str, Any] = {
        "frames": len(images),
        "largest_logit": round(largest, 4),
        "pytorch": str(torch.__version__),
    }
    for name, open_onnx in runners.items():
        version, infer = open_onnx(onnx)
        found = np.concatenate([infer(image) for image in images])
        report[name] = {"version": version, **_compare(name, found, expected, reference.rounding * largest)}
    return report


def _compare(name: str, found: Tensor32, expected: Tensor32, tolerance: float) -> dict[str, float]:
    """(N, classes, h, w) both."""
    if found.shape != expected.shape:
        raise EngineError(f"in {name} the engine gives logits of shape {found.shape}; PyTorch gives {expected.shape}")
    difference = float(np.abs(found - expected).max())
    equal = found.argmax(1) == expected.argmax(1)  # (N, h, w)
    agreement = float(equal.mean())
    # Written so that a NaN fails too.
    if not (difference <= tolerance and equal.size - equal.sum() <= max(1, (1 - AGREEMENT) * equal.size)):
        raise EngineError(
            f"in {name} the engine does not compute what PyTorch computes: logits differ by up to {difference:.3g} "
            f"(expected at most {tolerance:.3g}), {agreement:.4%} of the classes agree (expected {AGREEMENT:.2%}). "
            "Nothing was written; try another version of torch, onnxscript or the library"
        )
    return {"max_difference": difference, "argmax_agreement": agreement}


def _open_openvino(onnx: bytes) -> tuple[str, Callable[[Tensor32], Tensor32]]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return openvino.__version__.split("-")[0], lambda image: np.array(compiled(image)[0])


def _open_onnxruntime(onnx: bytes) -> tuple[str, Callable[[Tensor32], Tensor32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return onnxruntime.__version__, lambda image: np.array(session.run(None, {name: image})[0])


_RUNNERS: dict[str, Callable[[bytes], tuple[str, Callable[[Tensor32], Tensor32]]]] = {
    "openvino": _open_openvino,
    "onnxruntime": _open_onnxruntime,
}
