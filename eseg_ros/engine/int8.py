"""int8 in the graph: Q/DQ pairs around convolutions, by the rules of TensorRT, which OpenVINO and ONNX Runtime share.

- Symmetric: zero points are 0. Activations have one scale a tensor, weights one an output channel.
- Pairs stand at a convolution's input and weight, not at its output: what follows it (a fusion weight, a sum, a ReLU)
  takes part in the same kernel at full resolution. Where such an input is also one side of a residual sum, the sum
  reads the dequantised tensor too, as TensorRT's guide advises: so it becomes part of an int8 convolution.
- Biases stay float; TensorRT refuses others.
- Weights stay float in the file and are quantised by a pair of their own: TensorRT 8 takes no constants in int8.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from eseg_ros.errors import EngineError

if TYPE_CHECKING:
    import onnx

CALIBRATIONS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
"""How an activation's scale follows from the values seen (all; all but 0.001 %; least entropy lost) -> onnxruntime's
`CalibrationMethod`."""


def to_int8(
    model: onnx.ModelProto, frames: Any, calibration: str = "percentile", islands: Collection[str] = ()
) -> onnx.ModelProto:
    """The float32 graph with its convolutions quantised to int8.

    Args:
        model: left as it is.
        frames: onnxruntime's `CalibrationDataReader`, with a length and `set_range`.
        calibration: a key of CALIBRATIONS.
        islands: names of convolutions that stay float32.

    Raises:
        EngineError: the installed onnxruntime quantises by other rules than TensorRT's.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with TemporaryDirectory(prefix="eseg_int8_") as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            frames,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(islands),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[CALIBRATIONS[calibration]],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "CalibTensorRangeSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": True,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                # A frame at a time, whatever the option is called: histograms of all frames at once need gigabytes.
                **({} if calibration == "minmax" else {"CalibStridedMinMax": 1}),
            },
        )
        quantized = onnx.load(target)
    check_rules(quantized)
    _round_weights(quantized)
    return quantized


def check_rules(model: onnx.ModelProto) -> None:
    """Hold a quantised graph to the rules that this module describes.

    Raises:
        EngineError: a pair breaks one, or there is none.
    """
    from onnx import TensorProto, numpy_helper

    constants = {weight.name: weight for weight in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    broken = "" if pairs else "the graph has no Q/DQ pair"
    for node in pairs:
        data, scale_name, zero_name = node.input
        scale, zero = (numpy_helper.to_array(constants[name]) for name in (scale_name, zero_name))
        if constants[zero_name].data_type != TensorProto.INT8 or zero.any():
            broken = f"{node.name} is not symmetric int8: zero points {np.unique(zero)} of {zero.dtype}"
        elif not (np.isfinite(scale) & (scale > 0)).all():
            broken = f"{node.name} has a scale that is not above 0"
        elif data in constants and constants[data].data_type != TensorProto.FLOAT:
            broken = f"{node.name} reads {data}, which is stored quantised"
        elif data in constants and scale.shape != tuple(constants[data].dims[:1]):
            broken = f"{node.name} has scales of shape {scale.shape} for weights {tuple(constants[data].dims)}"
        elif data not in constants and node.op_type == "QuantizeLinear" and scale.ndim:
            broken = f"{node.name} quantises an activation by channels"
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    if any(bias not in constants for node in convolutions for bias in node.input[2:]):
        broken = "a convolution's bias is quantised"
    if broken:
        import onnxruntime

        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} quantised against TensorRT's rules: {broken}. Nothing was written; "
            "take a newer one: pip install --upgrade onnxruntime"
        )


def _round_weights(model: onnx.ModelProto) -> None:
    """Put each weight on its int8 grid, which changes no result: the file packs to half the size."""
    from onnx import numpy_helper

    constants = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in constants:
            weight, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
            scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
            rounded = (np.rint(weight / scale).clip(-128, 127) * scale).astype(np.float32)
            constants[node.input[0]].CopyFrom(numpy_helper.from_array(rounded, node.input[0]))


def layer_errors(model: onnx.ModelProto, frames: Any, calibration: str = "percentile") -> Iterator[tuple[str, float]]:
    """What each convolution costs when it alone is quantised; takes about a second a convolution.

    Args:
        model: the float32 graph.
        frames: as for `to_int8`; a few will do.
        calibration: as for `to_int8`.

    Yields:
        Name of the node, and the root mean square of the change of all logits as a share of that of the logits.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    expected = _outputs(model, frames)
    for name in convolutions:
        quantized = to_int8(model, frames, calibration, set(convolutions) - {name})
        change = _outputs(quantized, frames) - expected
        yield name, float(np.linalg.norm(change) / np.linalg.norm(expected))


def _outputs(model: onnx.ModelProto, frames: Any) -> Any:
    """The graph's only output, in ONNX Runtime, one frame behind the other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frames.set_range(0, len(frames))  # calibration leaves it at the last one
    outputs = []
    while inputs := frames.get_next():
        outputs.append(session.run(None, inputs)[0])
    return np.concatenate(outputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without onnxruntime's advice to its developers, which it prints and logs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
