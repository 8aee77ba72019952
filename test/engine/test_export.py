from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from eseg_ros.arguments import engine_size
from eseg_ros.data.reading import DataError
from eseg_ros.engine import export_command
from eseg_ros.engine.export import OPSET, export_checkpoint, resize_engine
from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.parity import check_parity, parity_inputs
from eseg_ros.errors import EngineError
from eseg_ros.labels import CAMVID
from eseg_ros.models.eseg import Eseg
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.models.zoo import MODELS
from eseg_ros.training.checkpoint import load_for_export

FileMaker = Callable[[str], Path]


@pytest.fixture(scope="module")
def network(lite_checkpoint: Path) -> Eseg:
    """What the checkpoint holds, as PyTorch runs it."""
    network, _ = load_for_export(lite_checkpoint)
    assert isinstance(network, Eseg)
    return network


@pytest.fixture(scope="session")
def engine(lite_engine: Path) -> Path:
    """The manifest of the engine that the checkpoint exports to."""
    return lite_engine


def infer(engine: Path, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(load_engine(engine).onnx, providers=["CPUExecutionProvider"])
    return np.array(session.run(None, {"image": image})[0])


def assert_computes_the_same(engine: Path, network: SegmentationNetwork) -> None:
    spec = load_engine(engine).manifest.input
    image = np.random.default_rng(1).normal(size=(1, 3, spec.height, spec.width)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(infer(engine, image), expected, rtol=0, atol=network.rounding * np.abs(expected).max())


def test_the_engine_computes_what_the_checkpoints_averaged_weights_compute(engine: Path, network: Eseg) -> None:
    assert_computes_the_same(engine, network)


def test_the_manifest_says_what_a_node_needs(engine: Path) -> None:
    manifest = load_engine(engine).manifest
    assert manifest.name == "lite"
    assert manifest.model == "eseg_lite_s"
    assert manifest.classes == CAMVID
    assert (manifest.input.width, manifest.input.height) == (96, 64)  # the crop it was trained on
    assert (manifest.input.mean, manifest.input.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert (manifest.output.width, manifest.output.height, manifest.output.stride) == (12, 8, 8)
    assert manifest.precision == "fp32"
    assert manifest.scores == {}


def test_the_manifest_says_how_the_engine_came_about_without_the_machines_folders(engine: Path) -> None:
    training = load_engine(engine).manifest.training
    assert training["epochs"] == 3
    assert training["validation_miou"] == {"camvid/miou": 0.5}
    assert training["recipe"]["data"]["root"] == "camvid"
    assert "someone" not in engine.read_text()


def test_the_parity_on_both_libraries_is_on_record(engine: Path) -> None:
    parity = load_engine(engine).manifest.parity
    assert parity["frames"] == 4
    for library in ("openvino", "onnxruntime"):
        assert parity[library]["max_difference"] <= 1e-5 * parity["largest_logit"]
        assert parity[library]["argmax_agreement"] >= 0.9999


def test_the_graph_is_static_and_complete_in_one_file(engine: Path) -> None:
    graph = onnx.load(load_engine(engine).onnx, load_external_data=False)
    assert [op.version for op in graph.opset_import] == [18]
    assert [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 96]
    assert [d.dim_value for d in graph.graph.output[0].type.tensor_type.shape.dim] == [1, 11, 8, 12]
    assert not any(weight.external_data for weight in graph.graph.initializer)
    assert sorted(path.name for path in engine.parent.iterdir()) == ["lite.json", "lite.onnx"]


def test_the_graph_names_its_weights_as_the_folded_network_does_even_equal_and_zero_ones(
    engine: Path, network: Eseg
) -> None:
    graph = onnx.load(load_engine(engine).onnx)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.graph.initializer}
    for name, value in network.deploy().state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy(), err_msg=name)


def test_the_graph_holds_no_source_paths_and_no_debug_notes(engine: Path) -> None:
    path = load_engine(engine).onnx
    assert b".py" not in path.read_bytes()
    assert not any(node.metadata_props or node.doc_string for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def resized(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine, with a score on record, fitted to 160x72."""
    folder = tmp_path_factory.mktemp("resized")
    scored = folder / engine.name
    scored.write_text(json.dumps({**json.loads(engine.read_text()), "scores": {"camvid/val": {"miou": 0.7}}}))
    (folder / "lite.onnx").write_bytes(engine.with_suffix(".onnx").read_bytes())
    return resize_engine(scored, "wide", folder, (160, 72))


def test_an_engine_fitted_to_another_size_computes_what_pytorch_computes_there(resized: Path, network: Eseg) -> None:
    assert_computes_the_same(resized, network)


def test_an_engine_fitted_to_another_size_keeps_all_but_size_and_scores(engine: Path, resized: Path) -> None:
    before, after = load_engine(engine).manifest, load_engine(resized).manifest
    assert after.input == replace(before.input, width=160, height=72)
    assert after.output == replace(before.output, width=20, height=9)
    assert (after.classes, after.training) == (before.classes, before.training)
    assert after.scores == {}


def test_a_foreign_engine_cannot_be_fitted_to_another_size(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"tiny cannot be rebuilt as nearest_color.*eseg export CHECKPOINT"):
        resize_engine(tiny_engine, "other", tmp_path, (64, 64))
    assert list(tmp_path.iterdir()) == []


ZOO = [pytest.param(n, marks=pytest.mark.slow) if m.parameters > 15 else n for n, m in MODELS.items()]


@pytest.mark.parametrize("name", ZOO)
def test_every_model_becomes_an_engine_of_odd_size_that_equals_pytorch(
    make_engine: FileMaker, make_checkpoint: FileMaker, name: str
) -> None:
    network, _ = load_for_export(make_checkpoint(name))
    manifest = load_engine(make_engine(name)).manifest  # exporting compared it in both libraries
    assert (manifest.model, manifest.output.stride) == (name, network.stride)
    assert (manifest.output.width, manifest.output.height) == (-(-161 // network.stride), -(-97 // network.stride))
    for library in ("openvino", "onnxruntime"):
        assert manifest.parity[library]["max_difference"] <= network.rounding * manifest.parity["largest_logit"]


SHIPPED = sorted((Path(__file__).parents[2] / "engines").glob("*.onnx"))

# fmt: off
KNOWN_TO_TENSORRT_8_5 = {
    "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Gather",
    "GlobalAveragePool", "GridSample", "MaxPool", "Mul", "QuantizeLinear", "Relu", "Resize", "Sigmoid", "Slice",
    "Squeeze", "Unsqueeze",
}
# fmt: on
"""Of the operators in builtin_op_importers.cpp of onnx-tensorrt's release/8.5-GA, those that our engines have."""

NEW_IN_RESIZE_18 = {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"}
"""Attribute -> the value that means what Resize meant before."""


def assert_readable_as_opset_17(graph: onnx.GraphProto) -> None:
    """TensorRT 8.5 and 8.6 read every node as opset 17 says, and overlook what 18 added."""
    for node in graph.node:
        assert node.op_type in KNOWN_TO_TENSORRT_8_5, node.op_type
        if node.op_type == "Resize":
            found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            assert {name: found.get(name, value) for name, value in NEW_IN_RESIZE_18.items()} == NEW_IN_RESIZE_18
            assert "axes" not in found
        else:
            assert onnx.defs.get_schema(node.op_type, OPSET).since_version <= 17, node.op_type


@pytest.mark.parametrize("name", ZOO)
def test_every_model_becomes_a_graph_that_tensorrt_8_reads_as_it_is_meant(make_engine: FileMaker, name: str) -> None:
    assert_readable_as_opset_17(onnx.load(make_engine(name).with_suffix(".onnx")).graph)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_engine_is_a_graph_that_tensorrt_8_reads_as_it_is_meant(path: Path) -> None:
    assert_readable_as_opset_17(onnx.load(path).graph)


@pytest.mark.parametrize("name", ["fast_scnn", "mfaranet", "mfaranet_pruned"])
def test_what_depends_on_the_input_size_is_made_anew_for_another_one(
    make_engine: FileMaker, make_checkpoint: FileMaker, tmp_path: Path, name: str
) -> None:
    network, _ = load_for_export(make_checkpoint(name))
    assert_computes_the_same(resize_engine(make_engine(name), "other", tmp_path, (96, 72)), network)


def test_what_only_training_needs_is_in_no_engine(make_engine: FileMaker) -> None:
    for name in ("fast_scnn", "mfaranet"):
        graph = onnx.load(load_engine(make_engine(name)).onnx).graph
        assert not [weight.name for weight in graph.initializer if weight.name.startswith("auxiliary")]
        assert len(graph.output) == 1


def perturbed(network: Eseg) -> Eseg:
    """The network with one weight of its head off by a thousandth of the largest."""
    other = network.deploy()
    weight = other.head.classify.weight
    weight[0, 0] += weight.abs().max() / 1000
    return other


def test_a_graph_that_differs_by_one_weight_does_not_pass(engine: Path, network: Eseg) -> None:
    spec = load_engine(engine).manifest.input
    with pytest.raises(EngineError, match=r"openvino.*logits differ by up to .* Nothing was written"):
        check_parity(engine.with_suffix(".onnx").read_bytes(), perturbed(network), parity_inputs(spec, None))


def test_a_failed_parity_leaves_the_engine_that_was_there(
    lite_checkpoint: Path, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {}
    for file in (engine, engine.with_suffix(".onnx")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        before[file.name] = file.read_bytes()
    monkeypatch.setattr(Eseg, "deploy", lambda self, deploy=Eseg.deploy: _spoiled(deploy(self)))
    with pytest.raises(EngineError, match="does not compute what PyTorch computes"):
        export_checkpoint(lite_checkpoint, "lite", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def _spoiled(deployed: Eseg) -> Eseg:
    deployed.head.classify.weight.mul_(1.001)
    return deployed


def test_parity_frames_come_from_the_data_set(engine: Path, tmp_path: Path) -> None:
    spec = load_engine(engine).manifest.input
    for folder in ("images", "labels"):
        (tmp_path / "val" / folder).mkdir(parents=True)
    for level in range(8):
        cv2.imwrite(str(tmp_path / f"val/images/{level}.png"), np.full((30, 40, 3), 30 * level, np.uint8))
        cv2.imwrite(str(tmp_path / f"val/labels/{level}.png"), np.zeros((30, 40), np.uint8))
    first, *_, last = parity_inputs(spec, tmp_path)
    assert first[0, :, 0, 0] == pytest.approx(-np.divide(spec.mean, spec.std), abs=1e-5)
    assert last[0, :, 0, 0] == pytest.approx(np.divide(210 / 255 - np.array(spec.mean), spec.std), abs=1e-5)


def test_a_data_set_without_frames_is_named(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'val' holds no frames \(\.jpg or \.png\)"):
        parity_inputs(load_engine(engine).manifest.input, tmp_path)


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    return export_command.run(parser.parse_args(arguments))


def test_the_command_fits_an_engine_to_a_camera(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(str(engine), "--name", "cam", "--out", str(tmp_path), "--size", "128x64") == 0
    assert load_engine(tmp_path / "cam.json").manifest.input.width == 128
    assert "eseg evaluate --engine" in capsys.readouterr().out


def test_the_command_asks_for_the_size_to_fit_an_engine_to(engine: Path) -> None:
    with pytest.raises(ValueError, match="--size"):
        command(str(engine), "--name", "cam")


@pytest.mark.parametrize("text", ["480", "480x", "x360", "480*360", "63x360", "-480x360"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="WIDTHxHEIGHT"):
        engine_size(text)
