"""Half precision in the graph: weights and tensors float16, but for islands of float32 where half would overflow."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

HALF_MAX = 65504.0  # largest finite float16
LARGEST_ACTIVATION = HALF_MAX / 4
"""Tensors that held more than this on the frames seen stay float32: frames not seen may hold a few times more."""


def to_half(model: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """A float32 graph in half precision, with half inputs and outputs.

    Args:
        model: all its tensors float32; left as it is.
        islands: names of nodes that stay float32, with their weights. Between neighbours nothing is rounded.

    Returns:
        The new graph, its nodes in topological order.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: onnx.ModelProto = convert_float_to_float16(copy.deepcopy(model), node_block_list=sorted(islands))
    _join_islands(half.graph)
    ONNXModel(half).topological_sort()  # the converter puts its casts last
    return half


def nodes_beyond_half(model: onnx.ModelProto, frames: Any) -> set[str]:
    """Names of the nodes that read or write a value too large for half precision, in a weight or on these frames.

    Args:
        model: the float32 graph.
        frames: onnxruntime's `CalibrationDataReader`.
    """
    from onnx import numpy_helper

    weights = ((weight.name, numpy_helper.to_array(weight)) for weight in model.graph.initializer)
    too_large = {name for name, values in weights if np.abs(values).max(initial=0) > HALF_MAX}
    # Written so that a NaN counts as too large.
    too_large |= {name for name, peak in activation_peaks(model, frames).items() if not peak <= LARGEST_ACTIVATION}
    return {node.name for node in model.graph.node if too_large & {*node.input, *node.output}}


def activation_peaks(model: onnx.ModelProto, frames: Any) -> dict[str, float]:
    """Name of each floating-point tensor that is no weight -> its largest magnitude on these frames."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with TemporaryDirectory(prefix="eseg_half_") as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        calibrator = create_calibrator(
            path, augmented_model_path=f"{folder}/augmented.onnx", calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(frames)
        ranges = calibrator.compute_data()
    return {name: float(np.abs(ranges[name].range_value).max()) for name in ranges}


def with_half_rounding(model: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """The float32 graph with every value rounded that is half in `to_half(model, islands)`.

    Libraries on a CPU run half graphs in float32 and round the weights alone. This graph shows on a CPU what half
    arithmetic changes on a GPU, but for the sums inside a layer.
    """
    import onnx

    touched = {name for node in model.graph.node if node.name not in islands for name in (*node.input, *node.output)}
    touched |= {value.name for value in (*model.graph.input, *model.graph.output)}
    halves = touched & _float_values(model)
    inputs = {value.name: f"{value.name}_rounded" for value in model.graph.input}
    nodes = [cast for name, target in inputs.items() for cast in _rounding(name, target)]
    for source in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        node.input[:] = [inputs.get(name, name) for name in source.input]
        node.output[:] = [f"{name}_exact" if name in halves else name for name in source.output]
        nodes.append(node)
        nodes += [cast for name in source.output if name in halves for cast in _rounding(f"{name}_exact", name)]
    rounded = copy.deepcopy(model)
    del rounded.graph.node[:]
    rounded.graph.node.extend(nodes)
    _round_weights(rounded.graph, touched)
    return rounded


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 tensors that are no weights."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}


def _round_weights(graph: onnx.GraphProto, names: Collection[str]) -> None:
    from onnx import TensorProto, numpy_helper

    for weight in graph.initializer:
        if weight.name in names and weight.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):  # infinite, as in half
                values = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def _rounding(source: str, target: str) -> list[onnx.NodeProto]:
    """Nodes that cast `source` to half and back into `target`."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [source], [f"{target}_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{target}_half"], [target], to=TensorProto.FLOAT),
    ]


def _join_islands(graph: onnx.GraphProto) -> None:
    """Let neighbours that stay float32 hand over float32.

    The converter casts to half behind each of them and back before each, even twice into the same name where two read
    one tensor.
    """
    from onnx import TensorProto

    producer = {output: node for node in graph.node for output in node.output}
    exact = {}  # what was half in between -> the float32 that it was made from
    for node in graph.node:
        before = producer.get(node.input[0]) if _casts_to(node, TensorProto.FLOAT) else None
        if before is not None and _casts_to(before, TensorProto.FLOAT16):
            exact[node.output[0]] = before.input[0]
    for node in graph.node:
        node.input[:] = [exact.get(name, name) for name in node.input]
    outputs = {output.name for output in graph.output}
    for element_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
        read = outputs | {name for node in graph.node for name in node.input}
        written: set[str] = set()
        for node in [node for node in graph.node if _casts_to(node, element_type)]:
            if node.output[0] not in read or node.output[0] in written:
                graph.node.remove(node)
            written.add(node.output[0])


def _casts_to(node: onnx.NodeProto, element_type: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == element_type for item in node.attribute)
