"""Half precision in the graph, and the islands of float32 where half would overflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eseg_ros.engine.half import nodes_beyond_half, to_half, with_half_rounding
from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.quantize import Recipe, calibration_frames

EngineMaker = Callable[..., Path]
BEYOND_HALF = 1e5


@pytest.fixture
def model(small_engine: Path) -> onnx.ModelProto:
    return onnx.load(load_engine(small_engine).onnx)


@pytest.fixture
def large_model(make_small_engine: EngineMaker) -> onnx.ModelProto:
    """One inner channel grows beyond half precision; the last but one layer takes it back."""
    return onnx.load(load_engine(make_small_engine(amplify=BEYOND_HALF)).onnx)


@pytest.fixture
def overflowing(large_model: onnx.ModelProto, small_engine: Path, painted_data: Path) -> set[str]:
    """The nodes of `large_model` that need float32, as found on four frames."""
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("fp16", painted_data)) as frames:
        return nodes_beyond_half(large_model, frames)


@pytest.fixture
def image(small_engine: Path, painted_data: Path) -> np.ndarray:
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("fp16", painted_data)) as frames:
        return frames.get_next()["image"]


def infer(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    dtype = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
    return np.array(session.run(None, {"image": image.astype(dtype)})[0]).astype(np.float32)


def element_types(model: onnx.ModelProto) -> set[int]:
    values = (*model.graph.input, *model.graph.output)
    return {weight.data_type for weight in model.graph.initializer} | {v.type.tensor_type.elem_type for v in values}


def casts(model: onnx.ModelProto) -> list[str]:
    return [node.input[0] for node in model.graph.node if node.op_type == "Cast"]


def test_all_of_an_ordinary_network_becomes_half(model: onnx.ModelProto) -> None:
    half = to_half(model, islands=())
    assert element_types(half) == {TensorProto.FLOAT16}
    assert casts(half) == []


def test_the_float_network_stays_as_it_is(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    to_half(model, {"residual"})
    with_half_rounding(model, ())
    assert model.SerializeToString() == before


def test_an_ordinary_network_needs_no_island(model: onnx.ModelProto, small_engine: Path, painted_data: Path) -> None:
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("fp16", painted_data)) as frames:
        assert nodes_beyond_half(model, frames) == set()


def test_what_reads_or_writes_a_value_beyond_half_is_an_island(overflowing: set[str]) -> None:
    assert overflowing == {"conv_encoder.stem", "relu", "conv_encoder.mix", "residual", "conv_head.merge"}


def test_a_weight_beyond_half_makes_its_layer_an_island(
    model: onnx.ModelProto, small_engine: Path, painted_data: Path
) -> None:
    bias = next(weight for weight in model.graph.initializer if weight.name == "head.classify.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(11, 7e4, np.float32), bias.name))
    with calibration_frames(load_engine(small_engine).manifest.input, Recipe("fp16", painted_data)) as frames:
        assert nodes_beyond_half(model, frames) == {"conv_head.classify"}


def test_without_islands_half_would_overflow(large_model: onnx.ModelProto, image: np.ndarray) -> None:
    assert not np.isfinite(infer(with_half_rounding(large_model, ()), image)).all()


def test_with_islands_it_computes_what_float_computes(
    large_model: onnx.ModelProto, overflowing: set[str], image: np.ndarray
) -> None:
    expected = infer(large_model, image)
    for model in (to_half(large_model, overflowing), with_half_rounding(large_model, overflowing)):
        np.testing.assert_allclose(infer(model, image), expected, atol=2e-3 * np.abs(expected).max())


def test_inside_an_island_nothing_is_cast(large_model: onnx.ModelProto, overflowing: set[str]) -> None:
    half = to_half(large_model, overflowing)
    assert sorted(casts(half)) == ["image", "merged_cast_to_fp16"], "one cast in, one cast out"
    onnx.checker.check_model(half, full_check=True)  # also that nodes stand in order


def test_an_island_keeps_its_weights_in_float32(large_model: onnx.ModelProto, overflowing: set[str]) -> None:
    half = to_half(large_model, overflowing)
    types = {weight.name: weight.data_type for weight in half.graph.initializer}
    assert types["encoder.mix.weight"] == TensorProto.FLOAT
    assert types["head.classify.weight"] == TensorProto.FLOAT16


def test_two_islands_that_read_one_half_tensor_share_its_cast(model: onnx.ModelProto) -> None:
    half = to_half(model, {"conv_encoder.mix", "residual"})
    written = [output for node in half.graph.node for output in node.output]
    assert len(written) == len(set(written))
    assert casts(half).count("positive") == 1
    onnx.checker.check_model(half, full_check=True)


def test_rounding_is_that_of_half_arithmetic() -> None:
    weights = [numpy_helper.from_array(np.array([1 / 3], np.float32), "third")]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "third"], ["scaled"]), helper.make_node("Neg", ["scaled"], ["logits"])],
        "third",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1000])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1000])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    image = np.random.default_rng(0).normal(0, 10, 1000).astype(np.float32)
    expected = -(image.astype(np.float16) * np.float16(1 / 3))
    np.testing.assert_array_equal(infer(with_half_rounding(model, ()), image), expected.astype(np.float32))
