"""Which runtime runs an engine, and what a person is told where none can."""

from __future__ import annotations

import importlib.util

import pytest

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime.select import create_runtime


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """`without("openvino", ...)`: the libraries are not installed."""
    find_spec = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find_spec(name))

    return hide


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_a_kind_by_name(engine: Engine, kind: str) -> None:
    pytest.importorskip(kind)
    assert create_runtime(engine, kind).name == kind


def test_auto_takes_openvino_first(engine: Engine) -> None:
    pytest.importorskip("openvino")
    assert create_runtime(engine).name == "openvino"


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


def test_tensorrt_is_refused_honestly(engine: Engine) -> None:
    with pytest.raises(RuntimeUnavailableError, match="not part of this version"):
        create_runtime(engine, "tensorrt")


def test_an_unknown_kind_is_refused_with_those_there_are(engine: Engine) -> None:
    with pytest.raises(ValueError, match="expected one of auto, openvino, onnxruntime, tensorrt"):
        create_runtime(engine, "tflite")
