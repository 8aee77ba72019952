"""Which runtime runs an engine on this machine."""

from __future__ import annotations

import importlib.util

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime.types import Runtime

RUNTIMES = ("auto", "openvino", "onnxruntime", "tensorrt")
_INSTALL = {"openvino": "pip install openvino", "onnxruntime": "pip install onnxruntime"}


def create_runtime(engine: Engine, kind: str = "auto", slots: int = 2, threads: int = 0) -> Runtime:
    """A runtime for an engine, not loaded yet.

    Args:
        engine: what to run.
        kind: one of RUNTIMES; "auto" takes the first that is installed: OpenVINO, ONNX Runtime.
        slots: frames that may be under way at once, from 1.
        threads: of the inference library; 0 = its own choice.

    Raises:
        RuntimeUnavailableError: the library is not installed, or this version has none for `kind`.
        ValueError: an unknown kind.
    """
    if kind not in RUNTIMES:
        raise ValueError(f"runtime is {kind!r}; expected one of {', '.join(RUNTIMES)}")
    if kind == "tensorrt":
        raise RuntimeUnavailableError(
            "runtime 'tensorrt' is not part of this version yet; use runtime: auto, the same engine on the CPU"
        )
    wanted = tuple(_INSTALL) if kind == "auto" else (kind,)
    installed = [name for name in wanted if importlib.util.find_spec(name) is not None]
    if not installed:
        commands = " or ".join(_INSTALL[name] for name in wanted)
        raise RuntimeUnavailableError(f"runtime {kind!r} needs a library that is not installed: {commands}")
    if installed[0] == "openvino":
        from eseg_ros.runtime.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(engine, slots, threads)
    from eseg_ros.runtime.onnxruntime_runtime import OnnxRuntimeRuntime

    return OnnxRuntimeRuntime(engine, slots, threads)
