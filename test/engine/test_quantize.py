"""Quantised engines: whole, described, checked before they are written."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from eseg_ros.data.reading import DataError
from eseg_ros.engine import quantize_command
from eseg_ros.engine.manifest import EngineManifest, load_engine
from eseg_ros.engine.quantize import Recipe, nodes_of, quantize_engine, rank_layers
from eseg_ros.errors import EngineError

EngineMaker = Callable[..., Path]
PRECISIONS = ("int8", "fp16")
ENGINES = Path(__file__).parents[2] / "engines"
TOO_LARGE_TO_SHIP = {"eseg_lite_m_camvid", "eseg_lite_m_camvid_trainval"}
"""Engines of which only the twins are kept here."""

QUANTIZED = sorted(path for precision in PRECISIONS for path in ENGINES.glob(f"*_{precision}.json"))


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def made(small_engine: Path, painted_data: Path, out: Path, precision: str) -> EngineManifest:
    """The manifest of the small engine's quantised twin."""
    return load_engine(quantize_engine(small_engine, Recipe(precision, painted_data), "twin", out)).manifest


def test_the_twin_is_whole_and_nothing_else_was_written(made: EngineManifest, out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["twin.json", "twin.onnx"]
    graph = onnx.load(out / made.onnx_file)
    assert graph.graph.name == "twin"
    assert not graph.metadata_props


def test_the_manifest_declares_the_precision_and_the_types_of_the_tensors(made: EngineManifest, precision: str) -> None:
    dtype = {"int8": "float32", "fp16": "float16"}[precision]
    assert (made.precision, made.input.dtype, made.output.dtype) == (precision, dtype, dtype)


def test_the_manifest_says_how_the_twin_was_made(made: EngineManifest, small_engine: Path, precision: str) -> None:
    source = load_engine(small_engine).manifest
    made_by = made.training["quantization"]
    assert made.training["recipe"] == source.training["recipe"]
    assert made_by["source"] == "small"
    assert made_by["source_sha256"] == source.onnx_sha256
    assert (made_by["data"], made_by["frames"], made_by["kept_fp32"]) == ("data/train", 4, [])
    assert set(made_by["versions"]) == {"onnx", "onnxruntime"}
    assert made_by["command"].startswith(f"eseg quantize small.json --precision {precision} --data data --split train")
    assert made.scores == {}


def test_what_else_the_node_needs_is_the_sources(made: EngineManifest, small_engine: Path) -> None:
    source = load_engine(small_engine).manifest
    assert (made.model, made.classes, made.opset) == (source.model, source.classes, source.opset)
    assert (made.input.mean, made.input.resize) == (source.input.mean, source.input.resize)


def test_the_masks_were_compared_in_every_library(made: EngineManifest, precision: str) -> None:
    libraries = {"openvino", "onnxruntime"} | ({"half rounding"} if precision == "fp16" else set())
    assert set(made.parity) == libraries
    assert all(found["agreement"] > 0.98 for found in made.parity.values())


def test_labels_are_not_needed(small_engine: Path, painted_data: Path, out: Path) -> None:
    shutil.rmtree(painted_data / "train/labels")
    quantize_engine(small_engine, Recipe("int8", painted_data), "twin", out)
    assert (out / "twin.json").exists()


def test_a_quantised_engine_is_not_quantised_again(made: EngineManifest, painted_data: Path, out: Path) -> None:
    with pytest.raises(EngineError, match=r"twin\.json is an .* engine already; only an fp32 engine .*: small"):
        quantize_engine(out / "twin.json", Recipe("int8", painted_data), "again", out)


def test_a_data_set_without_frames_is_named(small_engine: Path, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        quantize_engine(small_engine, Recipe("int8", tmp_path / "nowhere"), "twin", out)
    assert not out.exists()


def test_an_engine_that_int8_spoils_is_not_written(
    make_small_engine: EngineMaker, painted_data: Path, out: Path
) -> None:
    fragile = make_small_engine("fragile", amplify=1e4)
    with pytest.raises(EngineError, match=r"only .* of the mask pixels .* Nothing was written.*--rank"):
        quantize_engine(fragile, Recipe("int8", painted_data, calibration="minmax"), "twin", out)
    assert not out.exists()


def test_it_can_be_kept_by_leaving_its_fragile_part_in_float32(
    make_small_engine: EngineMaker, painted_data: Path, out: Path
) -> None:
    fragile = make_small_engine("fragile", amplify=1e4)
    kept = ("encoder.mix", "head.merge")
    recipe = Recipe("int8", painted_data, calibration="minmax", keep_fp32=kept)
    manifest = load_engine(quantize_engine(fragile, recipe, "twin", out)).manifest
    assert manifest.training["quantization"]["kept_fp32"] == ["conv_encoder.mix", "conv_head.merge"]
    assert manifest.training["quantization"]["command"].endswith("--keep-fp32 encoder.mix head.merge")


def test_the_ranking_finds_that_part(make_small_engine: EngineMaker, painted_data: Path) -> None:
    fragile = make_small_engine("fragile", amplify=1e4)
    ranking = rank_layers(fragile, Recipe("int8", painted_data, frames=2, calibration="minmax"))
    assert {module for module, _ in ranking[:2]} == {"encoder.mix", "head.merge"}
    assert len(ranking) == 4


def test_a_part_is_named_by_module_or_by_node(small_engine: Path) -> None:
    model = onnx.load(load_engine(small_engine).onnx)
    assert nodes_of(model, ["head"]) == {"conv_head.merge", "conv_head.classify"}
    assert nodes_of(model, ["head.merge", "residual"]) == {"conv_head.merge", "residual"}


def test_a_part_that_is_not_there_is_refused_with_those_that_are(small_engine: Path) -> None:
    with pytest.raises(EngineError, match=r"'hea' is neither .* modules are encoder, head\."):
        nodes_of(onnx.load(load_engine(small_engine).onnx), ["hea"])


@pytest.mark.parametrize("path", QUANTIZED, ids=lambda path: path.stem)
def test_a_shipped_twin_is_of_its_engine_and_passed_its_verification(path: Path) -> None:
    manifest = load_engine(path).manifest
    made_by = manifest.training["quantization"]
    if made_by["source"] not in TOO_LARGE_TO_SHIP:
        source = load_engine(ENGINES / made_by["source"]).manifest
        assert made_by["source_sha256"] == source.onnx_sha256, f"{made_by['command']}; eseg verify"
    verified = manifest.parity["camvid/val"]
    assert made_by["source_sha256"] == verified["reference_sha256"], f"{made_by['command']}; eseg verify"
    assert verified["passed"]


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    quantize_command.add_arguments(parser)
    return quantize_command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_command_writes_the_twin_beside_its_source_and_says_how_to_judge_it(
    small_engine: Path, painted_data: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(small_engine, "--precision", precision, "--data", painted_data) == 0
    assert load_engine(small_engine.with_name(f"small_{precision}.json")).manifest.precision == precision
    assert "eseg verify" in capsys.readouterr().out


def test_the_command_ranks_without_writing(
    small_engine: Path, painted_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(small_engine, "--data", painted_data, "--frames", "1", "--rank") == 0
    assert "head.classify" in capsys.readouterr().out
    assert sorted(path.name for path in small_engine.parent.iterdir()) == ["small.json", "small.onnx"]
