"""Which runtime runs an engine, and what a person is told where none can."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from emulated_driver import EmulatedDriver

from eseg_ros.engine.manifest import Engine
from eseg_ros.engine.plan import BuildOptions, Machine
from eseg_ros.engine.plan_cache import default_cache, find_or_store
from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime import select
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.select import create_runtime

VERSION = "10.3.0"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """`without("openvino", ...)`: the libraries are not installed."""
    find_spec = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find_spec(name))

    return hide


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever machine the tests run on has no GPU and no plans."""

    def refuse() -> None:
        raise RuntimeUnavailableError("this machine has no NVIDIA driver")

    monkeypatch.setattr(select, "open_driver", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> EmulatedDriver:
    """It has one, of compute capability 8.7, and TensorRT is installed."""
    driver = EmulatedDriver()
    monkeypatch.setattr(select, "open_driver", lambda: driver)
    tensorrt = ModuleType("tensorrt")
    tensorrt.__version__ = VERSION  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    return driver


@pytest.fixture
def build(engine: Engine) -> Callable[..., None]:
    """`build(version=..., capability=...)`: put a plan for such a machine into the cache."""

    def store(version: str = VERSION, capability: str = "8.7") -> None:
        machine = Machine("tensorrt", version, (capability,), "Emulated GPU", "13.0")
        find_or_store(engine, machine, BuildOptions(), default_cache(), lambda: b"a plan")

    return store


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_a_kind_by_name(engine: Engine, kind: str) -> None:
    pytest.importorskip(kind)
    assert create_runtime(engine, kind).name == kind


def test_without_a_gpu_auto_takes_openvino_first(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    with caplog.at_level(logging.INFO):
        assert create_runtime(engine).name == "openvino"
    assert "runs tiny on the CPU: this machine has no NVIDIA driver" in caplog.text


def test_auto_falls_back_to_onnx_runtime(engine: Engine, without) -> None:
    pytest.importorskip("onnxruntime")
    without("openvino")
    assert create_runtime(engine).name == "onnxruntime"


def test_where_none_is_installed_the_commands_are_told(engine: Engine, without) -> None:
    without("openvino", "onnxruntime")
    with pytest.raises(RuntimeUnavailableError, match="pip install openvino or pip install onnxruntime"):
        create_runtime(engine)


def test_a_library_that_was_asked_for_is_not_exchanged_for_another(engine: Engine, without) -> None:
    without("openvino")
    with pytest.raises(RuntimeUnavailableError, match="pip install openvino"):
        create_runtime(engine, "openvino")


@pytest.mark.parametrize("kind", ["tensorrt", "rtx"])
def test_a_gpu_that_was_asked_for_is_not_exchanged_for_the_cpu(engine: Engine, kind: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match="no NVIDIA driver"):
        create_runtime(engine, kind)


@pytest.mark.parametrize("kind", ["tensorrt", "rtx"])
def test_a_gpu_runtime_by_name_gets_its_options_and_is_not_loaded_yet(
    engine: Engine, gpu: EmulatedDriver, kind: str
) -> None:
    runtime = create_runtime(engine, kind, slots=3, cuda=CudaOptions(wait="spin"))
    assert isinstance(runtime, CudaRuntime)
    assert (runtime.name, runtime.slots, runtime.polled, runtime.device) == ("tensorrt", 3, True, "not loaded")
    assert gpu.calls == []


def test_auto_takes_tensorrt_where_a_plan_was_built_for_this_machine(
    engine: Engine, gpu: EmulatedDriver, build
) -> None:
    build()
    assert create_runtime(engine).name == "tensorrt"
    assert [call.name for call in gpu.calls] == ["open", "close"], "the worker's thread opens it anew"


def test_without_a_plan_auto_takes_the_cpu_and_tells_how_to_build_one(
    engine: Engine, gpu: EmulatedDriver, caplog: pytest.LogCaptureFixture
) -> None:
    assert not isinstance(create_runtime(engine), CudaRuntime)
    assert "it has not been built" in caplog.text
    assert "eseg build" in caplog.text
    assert gpu.calls[-1].name == "close"


@pytest.mark.parametrize("other", [{"version": "10.16.1"}, {"capability": "8.6"}])
def test_a_plan_of_another_machine_does_not_count(
    engine: Engine, gpu: EmulatedDriver, build, caplog: pytest.LogCaptureFixture, other: dict[str, str]
) -> None:
    build(**other)
    assert not isinstance(create_runtime(engine), CudaRuntime)
    assert f"was built with TensorRT {other.get('version', VERSION)}" in caplog.text


def test_without_tensorrt_auto_takes_the_cpu_and_tells_how_to_install_it(
    engine: Engine, gpu: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert not isinstance(create_runtime(engine), CudaRuntime)
    assert "pip install tensorrt" in caplog.text


def test_an_unknown_kind_is_refused_with_those_there_are(engine: Engine) -> None:
    with pytest.raises(ValueError, match="expected one of auto, openvino, onnxruntime, tensorrt, rtx"):
        create_runtime(engine, "tflite")
