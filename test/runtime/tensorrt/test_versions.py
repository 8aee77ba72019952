"""Build with every version of TensorRT, each of which has exactly its own names."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine.build import build_plan, serialize
from eseg_ros.engine.manifest import Engine
from eseg_ros.engine.plan import BuildOptions, Machine
from eseg_ros.errors import DeviceError, EngineError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo
from eseg_ros.runtime.tensorrt import api

TRT8, RTX = ("8.5.2", "8.6.1"), "1.7.1.116"  # as in conftest.py
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture
def machine(trt: Any, version: str) -> Machine:
    """The machine that builds."""
    if version == RTX:
        return api.machine_ahead(trt)
    return api.machine_of(trt, "tensorrt", DeviceInfo("Orin", (8, 7), True, 12060, 1 << 34))


def of_precision(engine: Engine, precision: str) -> Engine:
    return replace(engine, manifest=replace(engine.manifest, precision=precision))


def test_every_version_builds_with_the_names_it_has(trt: Any, engine: Engine, machine: Machine) -> None:
    assert serialize(trt, engine, machine, BuildOptions()) == b"a plan"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_types_of_the_onnx_file_rule_where_a_version_can_promise_it(
    trt: Any, engine: Engine, machine: Machine, version: str, world: Any, precision: str
) -> None:
    serialize(trt, of_precision(engine, precision), machine, BuildOptions())

    flags = trt.NetworkDefinitionCreationFlag
    expected = flags.EXPLICIT_BATCH if version in TRT8 else flags.STRONGLY_TYPED
    assert world.named("create_network") == [(1 << expected,)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_tensorrt_8_must_be_allowed_the_precisions_that_the_onnx_file_uses(
    trt: Any, engine: Engine, machine: Machine, version: str, world: Any, precision: str
) -> None:
    serialize(trt, of_precision(engine, precision), machine, BuildOptions())

    names = {"fp32": [], "fp16": ["FP16"], "int8": ["INT8"]}[precision] if version in TRT8 else []
    assert world.named("set_flag") == [(trt.BuilderFlag[name],) for name in names]


@pytest.mark.parametrize("version", TRT8)
def test_tensorrt_8_must_be_allowed_half_tensors_around_int8(
    trt: Any, engine: Engine, machine: Machine, world: Any
) -> None:
    manifest = of_precision(engine, "int8").manifest
    half = replace(manifest, input=replace(manifest.input, dtype="float16"))

    serialize(trt, replace(engine, manifest=half), machine, BuildOptions())

    assert set(world.named("set_flag")) == {(trt.BuilderFlag.INT8,), (trt.BuilderFlag.FP16,)}


def test_float32_is_computed_in_float32(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    serialize(trt, engine, machine, BuildOptions())

    assert world.named("clear_flag") == [(trt.BuilderFlag.TF32,)]


def test_a_plan_uses_one_stream(trt: Any, engine: Engine, machine: Machine, version: str, world: Any) -> None:
    serialize(trt, engine, machine, BuildOptions())

    assert world.named("max_aux_streams") == ([] if version == "8.5.2" else [(0,)])


def test_options_are_left_to_tensorrt_unless_chosen(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    serialize(trt, engine, machine, BuildOptions())

    assert world.named("set_memory_pool_limit") == world.named("builder_optimization_level") == []


def test_the_workspace_is_bounded_in_bytes(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    serialize(trt, engine, machine, BuildOptions(workspace_mib=512))

    assert world.named("set_memory_pool_limit") == [(trt.MemoryPoolType.WORKSPACE, 512 << 20)]


def test_an_optimization_level_is_set_or_refused(
    trt: Any, engine: Engine, machine: Machine, version: str, world: Any
) -> None:
    options = BuildOptions(optimization_level=5)
    if version == "8.5.2":
        with pytest.raises(ValueError, match=r"TensorRT 8\.5\.2 .* leave out --optimization-level"):
            serialize(trt, engine, machine, options)
    else:
        serialize(trt, engine, machine, options)
        assert world.named("builder_optimization_level") == [(5,)]


def test_a_failed_build_says_what_tensorrt_logged(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    world.fail.add("build_serialized_network")

    with pytest.raises(EngineError, match=r"cannot build .*tiny\.onnx: build_serialized_network failed\. .*--"):
        serialize(trt, engine, machine, BuildOptions())


def test_a_node_that_is_not_known_is_named_as_well_as_the_version_can(
    trt: Any, engine: Engine, machine: Machine, version: str, world: Any
) -> None:
    world.fail.add("parse")

    node = "node 7" if version in TRT8 else r"node 7 \(Frobnicate head/7\)"
    with pytest.raises(EngineError, match=rf"tiny\.onnx, opset 18: {node}: no importer\. A newer TensorRT may"):
        serialize(trt, engine, machine, BuildOptions())


def test_without_a_usable_gpu_the_reason_is_said(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    world.fail.add("Builder")

    with pytest.raises(DeviceError, match="CUDA initialization failure with error: 35"):
        serialize(trt, engine, machine, BuildOptions())


def test_progress_is_followed_where_the_version_tells(
    trt: Any,
    engine: Engine,
    machine: Machine,
    version: str,
    world: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    serialize(trt, engine, machine, BuildOptions())

    assert len(world.named("progress_monitor")) == (0 if version in TRT8 else 1)
    shown = capsys.readouterr().err
    assert ("reports no progress" if version in TRT8 else "Timing") in shown


@pytest.mark.parametrize("version", ["10.3.0", "11.1.0", RTX])
def test_ctrl_c_ends_a_build(
    trt: Any, engine: Engine, machine: Machine, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eseg_ros.engine.build.BuildBar.start", interrupted)

    with pytest.raises(KeyboardInterrupt):
        serialize(trt, engine, machine, BuildOptions())


def test_a_timing_cache_is_read_and_written(
    trt: Any, engine: Engine, machine: Machine, version: str, world: Any, tmp_path: Path
) -> None:
    if version == RTX:
        with pytest.raises(ValueError, match="leave out --timing-cache"):
            build_plan(trt, engine, machine, tmp_path, timing_cache=tmp_path / "cache")
        return
    cache = tmp_path / "cache"

    serialize(trt, engine, machine, BuildOptions(), cache)
    serialize(trt, engine, machine, BuildOptions(), cache)

    assert world.named("create_timing_cache") == [(b"",), (b"timings",)]


@pytest.mark.parametrize("failure", ["create_timing_cache", "set_timing_cache"])
@pytest.mark.parametrize("version", ["8.5.2", "10.3.0"])
def test_a_timing_cache_of_another_machine_is_refused(
    trt: Any, engine: Engine, machine: Machine, world: Any, tmp_path: Path, failure: str
) -> None:
    world.fail.add(failure)

    with pytest.raises(EngineError, match=r"cache is no timing cache of TensorRT .* delete it: rm "):
        serialize(trt, engine, machine, BuildOptions(), tmp_path / "cache")


@pytest.mark.parametrize("version", [RTX])
def test_tensorrt_for_rtx_builds_for_every_gpu_it_knows(trt: Any, engine: Engine, machine: Machine, world: Any) -> None:
    serialize(trt, engine, machine, BuildOptions())

    capability = trt.ComputeCapability
    assert machine.capabilities == ("7.5", "8.0", "12.0")
    assert world.named("num_compute_capabilities") == [(3,)]
    assert world.named("set_compute_capability") == [
        (capability.SM75, 0),
        (capability.SM80, 1),
        (capability.SM120, 2),
    ]


@pytest.mark.parametrize("version", [RTX])
def test_tensorrt_for_rtx_builds_for_the_gpus_that_are_named(trt: Any) -> None:
    assert api.machine_ahead(trt, ("12.0", "7.5")).capabilities == ("7.5", "12.0")
    with pytest.raises(ValueError, match=r"builds for compute capability 7\.5, 8\.0, 12\.0; not for 8\.7\."):
        api.machine_ahead(trt, ("8.0", "8.7"))


def test_scratch_memory_is_asked_for_by_the_name_the_version_has(trt: Any) -> None:
    engine = trt.Runtime(api.make_logger(trt)).deserialize_cuda_engine(b"a plan")

    assert api.scratch_bytes(engine) == 5 << 20


def test_a_machine_is_named_by_version_gpu_and_driver(trt: Any, version: str) -> None:
    machine = api.machine_of(trt, "tensorrt", DeviceInfo("Orin", (8, 7), True, 12060, 1 << 34))

    assert machine == Machine("tensorrt", version, ("8.7",), "Orin", "12.6")


def test_a_library_that_is_not_installed_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(api._MODULES, "rtx", ("no_such_tensorrt",))

    with pytest.raises(RuntimeUnavailableError, match=r"No module named 'no_such_tensorrt'.*pip install tensorrt-rtx"):
        api.import_tensorrt("rtx")


@pytest.mark.parametrize("version", [RTX])
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT for RTX not installed")
def test_the_fake_has_no_name_that_tensorrt_for_rtx_lacks(trt: Any) -> None:
    real = api.import_tensorrt("rtx")
    config = type(trt.Builder(api.make_logger(trt)).create_builder_config())
    engine = type(trt.Runtime(api.make_logger(trt)).deserialize_cuda_engine(b""))
    pairs = [
        (trt, real),
        (trt.NetworkDefinitionCreationFlag, real.NetworkDefinitionCreationFlag),
        (trt.BuilderFlag, real.BuilderFlag),
        (trt.ComputeCapability, real.ComputeCapability),
        (config, real.IBuilderConfig),
        (engine, real.ICudaEngine),
        (type(engine().create_execution_context()), real.IExecutionContext),
    ]

    for fake, genuine in pairs:
        names = {name for name in vars(fake) if not name.startswith("_")}
        assert names
        assert names - set(dir(genuine)) == set()
