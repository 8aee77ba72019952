"""Makes an engine: a trained network, folded for inference, as `NAME.onnx` + `NAME.json`.

The ONNX file holds one static graph, batch 1, image in and logits at the head's stride out, and all weights, each
under its name in the folded network's `state_dict`. That is what lets an engine be fitted to another input size
without its checkpoint. Nothing is written before the graph was compared with PyTorch.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eseg_ros.engine.manifest import (
    EngineManifest,
    InputSpec,
    OutputSpec,
    load_engine,
    portable_path,
    write_atomically,
    write_manifest,
)
from eseg_ros.engine.parity import check_parity, parity_inputs
from eseg_ros.engine.pooling import adaptive_avg_pool2d
from eseg_ros.errors import EngineError, RuntimeUnavailableError
from eseg_ros.labels import ClassSet

if TYPE_CHECKING:
    import onnx

    from eseg_ros.models.network import SegmentationNetwork
    from eseg_ros.training.checkpoint import TrainingRecord

OPSET = 18
"""What PyTorch's exporter writes. TensorRT 8.5 and 8.6 promise 17 and do not refuse 18; they read our graphs because no
operator in them has a form that came with 18, which test_export.py holds."""

INPUT_NAME = "image"
OUTPUT_NAME = "logits"

Size = tuple[int, int]
"""(width, height), pixels."""


@dataclass(frozen=True, slots=True)
class _Network:
    """A network about to become an engine.

    Attributes:
        reference: the network whose outputs the engine must have.
        deployed: the same network folded.
        model: key of `eseg_ros.models.zoo.MODELS`, or a variant.
        training: see `EngineManifest.training`.
    """

    reference: SegmentationNetwork
    deployed: SegmentationNetwork
    model: str
    classes: ClassSet
    input: InputSpec
    training: dict[str, Any]


def export_checkpoint(
    checkpoint: Path, name: str, folder: Path, size: Size | None = None, data: Path | None = None
) -> Path:
    """Make an engine of a checkpoint's averaged weights.

    Args:
        checkpoint: written by `eseg train`.
        name: the engine's name.
        folder: gets NAME.onnx and NAME.json; existing ones are replaced.
        size: the engine's input; without it, the frame size of the recipe (`data.size`), else its crop.
        data: data set whose `val` frames the parity is checked on; without it, rendered frames.

    Returns:
        The manifest's path.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        EngineError: the graph does not compute what PyTorch computes; nothing was written.
        RuntimeUnavailableError: PyTorch is not installed.
    """
    _require_pytorch()
    from eseg_ros.training.checkpoint import load_for_export

    reference, record = load_for_export(checkpoint)
    trained_height, trained_width = record.config["data"].get("size") or record.config["augment"]["crop"]
    width, height = size or (trained_width, trained_height)
    network = _Network(
        reference=reference,
        deployed=reference.deploy(),
        model=record.model,
        classes=record.classes,
        input=InputSpec(INPUT_NAME, width, height, mean=record.mean, std=record.std),
        training=_training_of(record),
    )
    return _export(network, name, folder, data)


def resize_engine(engine: Path, name: str, folder: Path, size: Size, data: Path | None = None) -> Path:
    """Make an engine with another input size of an engine's own weights; no checkpoint is needed.

    Its scores start empty: they depend on the input size.

    Args:
        engine: an engine of this package, precision fp32.
        name, folder, data: as for `export_checkpoint`.
        size: the new engine's input.

    Returns:
        The manifest's path.

    Raises:
        EngineError: the engine cannot be read or rebuilt, or parity fails; nothing was written.
        RuntimeUnavailableError: PyTorch is not installed.
    """
    source = load_engine(engine)
    _require_pytorch()
    manifest = source.manifest
    if manifest.precision != "fp32":
        raise EngineError(
            f"{manifest.name} has precision {manifest.precision}; only an fp32 engine can be fitted to another size. "
            "Start from the fp32 engine or the checkpoint"
        )
    deployed = rebuild_network(manifest, source.onnx)
    network = _Network(
        reference=deployed,
        deployed=deployed,
        model=manifest.model,
        classes=manifest.classes,
        input=replace(manifest.input, width=size[0], height=size[1]),
        training=manifest.training,
    )
    return _export(network, name, folder, data)


def _require_pytorch() -> None:
    missing = [name for name in ("torch", "onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"making an engine needs {', '.join(missing)}, which a vehicle does without. Make it on a machine with the "
            "trainer: pip install 'eseg_ros[train]', or in the sources: make setup"
        )


def _export(network: _Network, name: str, folder: Path, data: Path | None) -> Path:
    graph = to_onnx(network.deployed, network.input, name)
    _, _, rows, columns = (dim.dim_value for dim in graph.graph.output[0].type.tensor_type.shape.dim)
    content: bytes = graph.SerializeToString()
    manifest = EngineManifest(
        name=name,
        model=network.model,
        classes=network.classes,
        input=network.input,
        output=OutputSpec(OUTPUT_NAME, stride=network.deployed.stride, width=columns, height=rows),
        precision="fp32",
        onnx_file=f"{name}.onnx",
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        opset=OPSET,
        training=network.training,
        parity=check_parity(content, network.reference, parity_inputs(network.input, data)),
    )
    write_atomically(folder / manifest.onnx_file, content)
    return write_manifest(manifest, folder)


def to_onnx(deployed: SegmentationNetwork, spec: InputSpec, name: str) -> onnx.ModelProto:
    """The folded network as one static graph whose initializers bear the names of its `state_dict`.

    Args:
        deployed: as `SegmentationNetwork.deploy` gives it.
        spec: name and size of the graph's input; mean and deviation are the manifest's matter.
        name: the graph's.

    Raises:
        EngineError: the graph lacks a weight.
    """
    import onnx
    import torch
    from onnxscript import optimizer

    image = torch.zeros(1, 3, spec.height, spec.width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision's operators are missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, about itself
        program = torch.onnx.export(
            deployed,
            (image,),
            input_names=[spec.name],
            output_names=[OUTPUT_NAME],
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: adaptive_avg_pool2d},
            optimize=False,
            verbose=False,
        )
    assert program is not None
    # The exporter's own optimization also merges equal weights and drops zero biases, and with them their names.
    # These two steps give the same operators.
    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    graph = program.model_proto
    graph.graph.name = name
    _strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    missing = deployed.state_dict().keys() - {weight.name for weight in graph.graph.initializer}
    if missing:
        raise EngineError(
            f"the exported graph lost {len(missing)} weights of the network, the first is {min(missing)!r}, so that it "
            "could not be exported at another size; expected every entry of its state_dict. Report the versions of "
            "torch and onnxscript"
        )
    return graph


def _strip(graph: onnx.ModelProto) -> None:
    """Take out what the exporter notes for debugging: stack traces with source paths, per node and value."""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.graph.value_info[:]
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for weight in graph.graph.initializer:
        weight.ClearField("metadata_props")
        weight.ClearField("doc_string")


def rebuild_network(manifest: EngineManifest, path: Path) -> SegmentationNetwork:
    """The folded network that the engine in `path` was exported from, float32, with its weights.

    An fp16 engine gives the weights as it rounded them, to one part in 2048.

    Raises:
        EngineError: it is no fp32 or fp16 engine that this package exported.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    from eseg_ros.models.zoo import build_deployed

    if manifest.precision not in ("fp32", "fp16"):
        raise EngineError(
            f"{manifest.name} has precision {manifest.precision}; a network can be rebuilt from an fp32 or fp16 "
            "engine or the checkpoint"
        )
    weights = {
        weight.name: torch.from_numpy(numpy_helper.to_array(weight).copy())
        for weight in onnx.load(path).graph.initializer
    }
    try:
        network = build_deployed(manifest.model, len(manifest.classes))
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except (ValueError, KeyError, RuntimeError) as error:
        raise EngineError(
            f"{manifest.name} cannot be rebuilt as {manifest.model}: {error}. Only an engine that this package "
            "exported can be fitted to another size; export from its checkpoint instead: eseg export CHECKPOINT"
        ) from error
    return network


def _training_of(record: TrainingRecord) -> dict[str, Any]:
    """How the weights came about, without the folders of the machine that trained them."""
    recipe = {key: value for key, value in record.config.items() if key != "out"}
    return {
        "recipe": _portable(recipe),
        "epochs": record.epochs,
        "validation_miou": {name: score for name, score in record.scores.items() if name.endswith("/miou")},
        "torch": record.torch_version,
    }


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: portable_path(Path(item))
            if key in ("root", "init_from", "grow_from", "teacher") and item
            else _portable(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    return value
