"""Making an engine: the folded network as ONNX beside its manifest, written only after it proved equal to PyTorch.

The names of the ONNX initializers are those of the network's `state_dict`, so an engine's weights can be read back and
exported anew for another input size: whoever has an engine needs no checkpoint to fit it to a camera.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxscript.optimizer
import torch
from onnx import numpy_helper

from eseg_ros.engine.manifest import (
    EngineManifest,
    InputSpec,
    OutputSpec,
    load_engine,
    sha256_of,
    write_atomically,
    write_manifest,
)
from eseg_ros.errors import EngineError
from eseg_ros.labels import class_set
from eseg_ros.models import build_deployed
from eseg_ros.models.eseg import Eseg

FloatArray = npt.NDArray[np.float32]

OPSET = 18
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
PARITY_TOLERANCE = 2e-6
"""Largest difference allowed between a runtime and PyTorch, as a share of the largest logit (1.4e-4 at +-70).

Measured on ESeg-Lite-S: up to 1e-6 of the largest logit, the rounding of sums in another order.
"""
PARITY_FRAMES = 4


def export_checkpoint(
    checkpoint: Path, name: str, folder: Path, *, size: tuple[int, int], frames: list[npt.NDArray[np.uint8]]
) -> Path:
    """Make `FOLDER/NAME.onnx` and `FOLDER/NAME.json` from a training checkpoint's averaged weights.

    Args:
        checkpoint: written by `eseg train`.
        name: the engine's name.
        folder: where engines lie.
        size: width and height of the engine's input, pixels.
        frames: camera images, (H, W, 3) uint8 BGR each, on which the engine must agree with PyTorch.

    Returns:
        Path of the manifest.

    Raises:
        EngineError: the exported engine disagrees with PyTorch; nothing was written.
        CheckpointError: the checkpoint cannot be used.
    """
    from eseg_ros.training.checkpoint import load_for_export

    network, record = load_for_export(checkpoint)
    if not isinstance(network, Eseg):
        raise EngineError(f"{checkpoint} holds a {type(network).__name__}; expected one of the ESeg family")
    manifest = EngineManifest(
        name=name,
        model=record.model,
        classes=class_set(record.classes),
        input=InputSpec(INPUT_NAME, *size, mean=record.mean, std=record.std),
        output=_output_spec(network.stride, size),
        precision="fp32",
        onnx_file=f"{name}.onnx",
        onnx_sha256="",
        opset=OPSET,
        training={
            "recipe": record.config,
            "epochs": record.epochs,
            "validation": record.scores,
            "torch": record.torch_version,
            "checkpoint_sha256": sha256_of(checkpoint),
        },
    )
    return _write_engine(network.deploy(), manifest, folder, frames)


def export_engine(
    engine: Path, name: str, folder: Path, *, size: tuple[int, int], frames: list[npt.NDArray[np.uint8]]
) -> Path:
    """Make an engine of another input size from an existing one's weights; arguments and errors as above.

    The new engine starts without scores: what the old one scored was at another size.
    """
    source = load_engine(engine)
    manifest = replace(
        source.manifest,
        name=name,
        input=replace(source.manifest.input, width=size[0], height=size[1]),
        output=_output_spec(source.manifest.output.stride, size),
        onnx_file=f"{name}.onnx",
        scores={},
        training={**source.manifest.training, "resized_from": source.manifest.name},
    )
    return _write_engine(load_deployed(source.onnx, source.manifest), manifest, folder, frames)


def load_deployed(onnx_path: Path, manifest: EngineManifest) -> Eseg:
    """The folded PyTorch network with an engine's weights.

    Raises:
        EngineError: the ONNX file lacks weights that the model needs, or it is no float32 engine of this package.
    """
    graph = onnx.load(str(onnx_path)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    network = build_deployed(manifest.model, len(manifest.classes))
    missing = [key for key in network.state_dict() if key not in stored]
    if missing:
        raise EngineError(
            f"{onnx_path} lacks {len(missing)} weights of {manifest.model}, the first is {missing[0]}; "
            "only engines written by `eseg export` can be exported again"
        )
    network.load_state_dict({key: stored[key] for key in network.state_dict()})
    return network.eval()


def export_graph(network: torch.nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
    """The network as ONNX: batch 1, static shapes, all weights inside, nothing about the machine that made it.

    The exporter's own optimizer would merge equal weights and lose their names; folding the shape arithmetic is all
    that is needed.
    """
    width, height = size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own internals
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 3, height, width),),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )
    assert program is not None  # dynamo=True always gives one
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    model: onnx.ModelProto = program.model_proto
    _strip_provenance(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def check_parity(network: torch.nn.Module, model: bytes, images: Iterator[FloatArray]) -> dict[str, Any]:
    """Compare every runtime that is installed with PyTorch on input tensors (1, 3, H, W) float32.

    Returns:
        For the manifest: frames, the largest logit, and for each runtime the largest difference and the share of
        scores whose class agrees.

    Raises:
        EngineError: a runtime differs by more than PARITY_TOLERANCE times the largest logit.
    """
    from eseg_ros.runtime.cpu_sessions import run_onnx_bytes

    runners = run_onnx_bytes(model)
    worst = dict.fromkeys(runners, 0.0)
    agreement = dict.fromkeys(runners, 1.0)
    largest, frames = 0.0, 0
    for image in images:
        with torch.no_grad():
            expected = network(torch.from_numpy(image)).numpy()
        largest = max(largest, float(np.abs(expected).max()))
        frames += 1
        for name, run in runners.items():
            logits = run(image)
            worst[name] = max(worst[name], float(np.abs(logits - expected).max()))
            same = float(np.mean(logits.argmax(1) == expected.argmax(1)))
            agreement[name] = min(agreement[name], same)
    for name in runners:
        if not worst[name] <= PARITY_TOLERANCE * largest:
            raise EngineError(
                f"the exported engine differs from PyTorch by {worst[name]:.2e} on {name} (logits up to {largest:.1f}); "
                f"expected at most {PARITY_TOLERANCE * largest:.2e}. Nothing was written; please report this"
            )
    return {
        "frames": frames,
        "largest_logit": round(largest, 3),
        "max_difference": {name: float(f"{value:.2e}") for name, value in worst.items()},
        "class_agreement": {name: round(value, 6) for name, value in agreement.items()},
    }


def _write_engine(
    network: Eseg, manifest: EngineManifest, folder: Path, frames: list[npt.NDArray[np.uint8]]
) -> Path:
    """Export, prove, write: the ONNX file first, so that a manifest never names a file that is not there."""
    if not frames:
        raise EngineError("no frames to compare the exported engine with PyTorch on; give a data set with --data ROOT")
    content = export_graph(network, (manifest.input.width, manifest.input.height)).SerializeToString()
    parity = check_parity(network, content, _inputs(frames, manifest.input))
    onnx_path = folder / manifest.onnx_file
    write_atomically(onnx_path, content)
    return write_manifest(replace(manifest, onnx_sha256=sha256_of(onnx_path), parity=parity), folder)


def _inputs(frames: list[npt.NDArray[np.uint8]], spec: InputSpec) -> Iterator[FloatArray]:
    """The engine's input tensors of camera images, (1, 3, H, W) float32 each, as on the vehicle."""
    from eseg_ros.runtime.preprocess import Preprocessor

    preprocess = Preprocessor(spec)
    for frame in frames:
        tensor = np.empty((1, 3, spec.height, spec.width), np.float32)
        preprocess(frame, tensor)
        yield tensor


def _output_spec(stride: int, size: tuple[int, int]) -> OutputSpec:
    width, height = (-(-length // stride) for length in size)
    return OutputSpec(OUTPUT_NAME, stride, width, height)


def _strip_provenance(model: onnx.ModelProto) -> None:
    """Take out the exporter's source paths and stack traces."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.doc_string = ""
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    del graph.value_info[:]
