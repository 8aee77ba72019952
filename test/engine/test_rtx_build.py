"""The gate that needs no GPU: TensorRT for RTX, whose parser and builder are real, takes every engine there is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from eseg_ros.engine.build import build_plan, serialize
from eseg_ros.engine.export import to_onnx
from eseg_ros.engine.half import to_half
from eseg_ros.engine.int8 import to_int8
from eseg_ros.engine.manifest import Engine, InputSpec, load_engine
from eseg_ros.engine.plan import BuildOptions, Machine, read_plan
from eseg_ros.engine.plan_cache import find_plan
from eseg_ros.errors import EngineError, RuntimeUnavailableError
from eseg_ros.models.zoo import MODELS, build_deployed
from eseg_ros.runtime.tensorrt import api

SHIPPED = sorted((Path(__file__).parents[2] / "engines").glob("*.json"))
SMALL = [name for name, model in MODELS.items() if model.parameters < 15]  # the larger ones have the same operators


@pytest.fixture(scope="module")
def trt() -> Any:
    """TensorRT for RTX."""
    try:
        return api.import_tensorrt("rtx")
    except RuntimeUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def machine(trt: Any) -> Machine:
    """Every GPU that it builds for."""
    return api.machine_ahead(trt)


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A model of the zoo, untrained, exported as engines are."""
    spec = InputSpec("image", 128, 96, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return to_onnx(build_deployed(request.param, 11).eval(), spec, request.param)


class RandomFrames:
    """Two frames for onnxruntime's calibration."""

    def __init__(self, width: int, height: int) -> None:
        shape = (2, 1, 3, height, width)
        self._frames = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self._left = self._all()

    def _all(self) -> Iterator[np.ndarray]:
        yield from self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._frames[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._left, None)
        if frame is None:
            self._left = self._all()
            return None
        return {"image": frame}


def as_engine(model: onnx.ModelProto, like: Path, folder: Path, precision: str) -> Engine:
    """A graph as an engine, so far as building looks at one."""
    source = load_engine(like).manifest
    content = model.SerializeToString()
    path = folder / "model.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Engine(replace(source, precision=precision, onnx_file=path.name, onnx_sha256=digest), path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_engine_is_built_for_every_gpu(trt: Any, machine: Machine, path: Path) -> None:
    assert serialize(trt, load_engine(path), machine, BuildOptions())


@pytest.mark.slow
@pytest.mark.parametrize("network", MODELS, indirect=True)
def test_every_model_of_the_zoo_is_built(
    trt: Any, machine: Machine, network: onnx.ModelProto, tiny_engine: Path, tmp_path: Path
) -> None:
    assert serialize(trt, as_engine(network, tiny_engine, tmp_path, "fp32"), machine, BuildOptions())


@pytest.mark.slow
@pytest.mark.parametrize("network", SMALL, indirect=True)
def test_every_family_of_the_zoo_is_built_in_half(
    trt: Any, machine: Machine, network: onnx.ModelProto, tiny_engine: Path, tmp_path: Path
) -> None:
    half = to_half(network, ())

    assert serialize(trt, as_engine(half, tiny_engine, tmp_path, "fp16"), machine, BuildOptions())


def test_half_with_float32_islands_is_built(trt: Any, machine: Machine, lite_engine: Path, tmp_path: Path) -> None:
    model = onnx.load(load_engine(lite_engine).onnx)
    islands = [node.name for node in model.graph.node if node.op_type == "Conv"][5:8]

    assert serialize(trt, as_engine(to_half(model, islands), lite_engine, tmp_path, "fp16"), machine, BuildOptions())


def test_int8_by_q_dq_pairs_is_built(trt: Any, machine: Machine, lite_engine: Path, tmp_path: Path) -> None:
    source = load_engine(lite_engine)
    frames = RandomFrames(source.manifest.input.width, source.manifest.input.height)
    quantized = to_int8(onnx.load(source.onnx), frames)

    assert serialize(trt, as_engine(quantized, lite_engine, tmp_path, "int8"), machine, BuildOptions())


def test_options_are_taken(trt: Any, machine: Machine, tiny_engine: Path) -> None:
    assert serialize(trt, load_engine(tiny_engine), machine, BuildOptions(workspace_mib=64, optimization_level=1))


def test_a_built_plan_is_found_on_a_machine_with_one_of_the_gpus(
    trt: Any, machine: Machine, tiny_engine: Path, tmp_path: Path
) -> None:
    engine = load_engine(tiny_engine)
    built, is_new = build_plan(trt, engine, machine, tmp_path)
    vehicle = replace(machine, capabilities=machine.capabilities[-1:], gpu="a GPU", cuda="13.0")

    assert is_new
    assert find_plan(engine, vehicle, tmp_path) == built
    assert len(read_plan(built, vehicle)) == built.manifest.plan_bytes > 0


def test_a_build_for_one_gpu_is_another_plan(trt: Any, machine: Machine, tiny_engine: Path, tmp_path: Path) -> None:
    engine = load_engine(tiny_engine)
    one = api.machine_ahead(trt, machine.capabilities[:1])

    assert build_plan(trt, engine, one, tmp_path)[0].path != build_plan(trt, engine, machine, tmp_path)[0].path


def test_an_operator_that_the_parser_does_not_know_is_named(
    trt: Any, machine: Machine, tiny_engine: Path, tmp_path: Path
) -> None:
    model = onnx.load(load_engine(tiny_engine).onnx)
    model.graph.node[0].op_type = "Frobnicate"

    with pytest.raises(EngineError, match=r"cannot read .*node 0 \(Frobnicate "):
        serialize(trt, as_engine(model, tiny_engine, tmp_path, "fp32"), machine, BuildOptions())


def test_a_cut_onnx_file_is_refused(trt: Any, machine: Machine, tiny_engine: Path, tmp_path: Path) -> None:
    engine = load_engine(tiny_engine)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(engine.onnx.read_bytes()[:100])

    with pytest.raises(EngineError, match=r"cannot read .*cut\.onnx"):
        serialize(trt, replace(engine, onnx=cut), machine, BuildOptions())


def test_what_tensorrt_cannot_read_is_refused_with_its_reason(trt: Any, machine: Machine, tiny_engine: Path) -> None:
    plan = serialize(trt, load_engine(tiny_engine), machine, BuildOptions())

    with pytest.raises(EngineError, match=r"TensorRT cannot read it: \w+"):  # cut, and mostly no driver either
        api.deserialize(trt, plan[: len(plan) // 2], api.make_logger(trt))
