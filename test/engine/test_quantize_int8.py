"""int8 by TensorRT's rules, read off the graph; and that the libraries of the CPU run it in int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eseg_ros.engine.int8 import CALIBRATIONS, check_rules, layer_errors, to_int8
from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.quantize import Recipe, calibration_frames
from eseg_ros.errors import EngineError

EngineMaker = Callable[..., Path]


def quantized(engine: Path, data: Path, calibration: str = "percentile", islands: tuple[str, ...] = ()) -> Any:
    """The engine's graph in int8, calibrated on four frames."""
    source = load_engine(engine)
    with calibration_frames(source.manifest.input, Recipe("int8", data)) as frames:
        return to_int8(onnx.load(source.onnx), frames, calibration, islands)


@pytest.fixture
def model(small_engine: Path, painted_data: Path) -> onnx.ModelProto:
    """The small engine's graph in int8."""
    return quantized(small_engine, painted_data)


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}


def pairs(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]


def convolutions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in model.graph.node if node.op_type == "Conv"}


def test_every_zero_point_is_0_and_int8(model: onnx.ModelProto) -> None:
    for node in pairs(model):
        zero = constants(model)[node.input[2]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name


def test_every_convolution_reads_its_image_and_its_weights_from_pairs(model: onnx.ModelProto) -> None:
    made_by = producers(model)
    assert len(convolutions(model)) == 4
    for node in convolutions(model).values():
        for name in node.input[:2]:
            assert made_by[name].op_type == "DequantizeLinear"
            assert made_by[made_by[name].input[0]].op_type == "QuantizeLinear"


def test_weights_have_a_scale_for_each_output_channel_and_activations_one(model: onnx.ModelProto) -> None:
    made_by, values = producers(model), constants(model)
    for node in convolutions(model).values():
        activation, weight = (made_by[name] for name in node.input[:2])
        stored = values[made_by[weight.input[0]].input[0]]
        assert values[weight.input[1]].shape == (stored.shape[0],)
        assert [item.i for item in weight.attribute if item.name == "axis"] == [0]
        assert values[activation.input[1]].shape == ()


def test_weights_stay_float_in_the_file_for_tensorrt_8(model: onnx.ModelProto, small_engine: Path) -> None:
    before = constants(onnx.load(load_engine(small_engine).onnx))
    after = constants(model)
    for name, value in before.items():
        assert after[name].dtype == np.float32
        np.testing.assert_allclose(after[name], value, atol=np.abs(value).max() / 127)


def test_weights_in_the_file_are_what_their_pair_makes_of_them(model: onnx.ModelProto) -> None:
    values = constants(model)
    stored = [node for node in pairs(model) if node.op_type == "QuantizeLinear" and node.input[0] in values]
    assert len(stored) == 4
    for node in stored:
        scale = values[node.input[1]].reshape(-1, 1, 1, 1)
        steps = values[node.input[0]] / scale
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_biases_are_not_quantised(model: onnx.ModelProto) -> None:
    for name, node in convolutions(model).items():
        assert node.input[2] == name.removeprefix("conv_") + ".bias"


def test_what_only_sums_read_is_not_quantised_nor_are_the_logits(model: onnx.ModelProto) -> None:
    residual = next(node for node in model.graph.node if node.name == "residual")
    made_by = producers(model)
    assert sorted(made_by[name].op_type for name in residual.input) == ["Conv", "DequantizeLinear"]
    assert made_by["logits"].op_type == "Conv"


def test_a_scale_covers_the_largest_value_seen_when_calibrated_by_it(small_engine: Path, painted_data: Path) -> None:
    model = quantized(small_engine, painted_data, "minmax")
    image = next(node for node in pairs(model) if node.input[0] == "image")
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("int8", painted_data)) as frames:
        largest = max(np.abs(frames.get_next()["image"]).max() for _ in range(len(frames)))
    assert constants(model)[image.input[1]] == pytest.approx(largest / 127, rel=0.01)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_every_calibration_keeps_what_the_network_computes(
    small_engine: Path, painted_data: Path, calibration: str
) -> None:
    source = onnx.load(load_engine(small_engine).onnx)
    model = quantized(small_engine, painted_data, calibration)
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("int8", painted_data)) as frames:
        image = frames.get_next()
    expected, found = (infer(graph, image) for graph in (source, model))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def infer(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    return np.array(onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0])


def test_an_island_stays_float(small_engine: Path, painted_data: Path) -> None:
    model = quantized(small_engine, painted_data, islands=("conv_head.classify",))
    assert list(convolutions(model)["conv_head.classify"].input) == [
        "merged",
        "head.classify.weight",
        "head.classify.bias",
    ]


def test_openvino_runs_the_convolutions_in_int8(model: onnx.ModelProto) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    types = [
        layer["runtimePrecision"].astype(str) for layer in layers if layer["layerType"].astype(str) == "Convolution"
    ]
    assert len(types) == 4
    assert set(types) <= {"i8", "u8"}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda model: set_constant(model, "image_zero_point", np.int8(3)), "not symmetric int8: zero points"),
        (lambda model: set_constant(model, "image_zero_point", np.uint8(0)), "of uint8"),
        (lambda model: set_constant(model, "image_scale", np.float32(0)), "a scale that is not above 0"),
        (lambda model: set_constant(model, "image_scale", np.ones(3, np.float32)), "an activation by channels"),
        (
            lambda model: set_constant(model, "head.merge.weight_scale", np.float32(1)),
            r"scales of shape \(\) for weights \(3, 6, 1, 1\)",
        ),
        (
            lambda model: set_constant(model, "head.merge.weight", np.ones((3, 6, 1, 1), np.int8)),
            "head.merge.weight, which is stored quantised",
        ),
        (lambda model: model.graph.ClearField("node"), "no Q/DQ pair"),
        (lambda model: quantise_a_bias(model), "a convolution's bias is quantised"),
    ],
    ids=["zero point", "uint8", "scale", "activation", "weight", "stored", "no pairs", "bias"],
)
def test_a_graph_against_the_rules_is_refused(
    model: onnx.ModelProto, damage: Callable[[onnx.ModelProto], None], told: str
) -> None:
    damage(model)
    with pytest.raises(EngineError, match=told):
        check_rules(model)


def set_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    weight = next(weight for weight in model.graph.initializer if weight.name == name)
    weight.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def quantise_a_bias(model: onnx.ModelProto) -> None:
    node = convolutions(model)["conv_head.merge"]
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT8, [3], [0, 0, 0]))
    model.graph.node.append(helper.make_node("Cast", ["q"], ["dequantised"], to=TensorProto.FLOAT))
    node.input[2] = "dequantised"


def test_the_layers_that_read_an_outlier_channel_cost_most(make_small_engine: EngineMaker, painted_data: Path) -> None:
    source = load_engine(make_small_engine(amplify=100.0))
    with calibration_frames(source.manifest.input, Recipe("int8", painted_data, frames=2)) as frames:
        errors = dict(layer_errors(onnx.load(source.onnx), frames))
    assert set(errors) == {"conv_encoder.stem", "conv_encoder.mix", "conv_head.merge", "conv_head.classify"}
    assert set(sorted(errors, key=errors.get)[2:]) == {"conv_encoder.mix", "conv_head.merge"}
