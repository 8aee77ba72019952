"""Which runtime runs an engine on this machine."""

from __future__ import annotations

import importlib.util
import logging

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import EsegError, RuntimeUnavailableError
from eseg_ros.runtime import RUNTIMES
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.types import Runtime

_GPU = ("tensorrt", "rtx")
_CPU = {"openvino": "pip install openvino", "onnxruntime": "pip install onnxruntime"}

_log = logging.getLogger(__name__)


def create_runtime(
    engine: Engine,
    kind: str = "auto",
    slots: int = 2,
    threads: int = 0,
    cuda: CudaOptions | None = None,
    auto_build: bool = False,
) -> Runtime:
    """A runtime for an engine, not loaded yet.

    Args:
        engine: what to run.
        kind: one of RUNTIMES; "rtx" is TensorRT for RTX. "auto" takes the first that can run the engine here: TensorRT,
            if there is a GPU and a plan that was built for it, else OpenVINO, else ONNX Runtime.
        slots: frames that may be under way at once, from 1.
        threads: of the inference library on the CPU; 0 = its own choice.
        cuda: how a GPU is used.
        auto_build: build a missing plan while loading, which takes minutes; for "tensorrt" and "rtx".

    Raises:
        RuntimeUnavailableError: the library is not installed, or there is no GPU for `kind`.
        ValueError: an unknown kind.
    """
    if kind not in RUNTIMES:
        raise ValueError(f"runtime is {kind!r}; expected one of {', '.join(RUNTIMES)}")
    options = cuda or CudaOptions()
    if kind == "auto" and _has_plan(engine, options.device):
        kind = "tensorrt"
    if kind not in _GPU:
        return _cpu_runtime(engine, kind, slots, threads)
    from eseg_ros.runtime.tensorrt.network import TensorRtNetwork

    return CudaRuntime(open_driver(), TensorRtNetwork(engine, kind, auto_build=auto_build), slots, options)


def _has_plan(engine: Engine, device: int) -> bool:
    """Whether TensorRT can run the engine on this machine; logs why not."""
    try:
        driver = open_driver()
    except RuntimeUnavailableError as error:
        _log.info("runtime auto runs %s on the CPU: %s", engine.manifest.name, error)
        return False
    from eseg_ros.engine.plan import read_plan
    from eseg_ros.engine.plan_cache import default_cache, find_plan
    from eseg_ros.runtime.tensorrt.api import import_tensorrt, machine_of

    try:
        machine = machine_of(import_tensorrt("tensorrt"), "tensorrt", driver.open(device))
        read_plan(find_plan(engine, machine, default_cache()), machine)
    except EsegError as error:
        _log.warning("runtime auto runs %s on the CPU, though there is a GPU: %s", engine.manifest.name, error)
        return False
    finally:
        driver.close()
    return True


def _cpu_runtime(engine: Engine, kind: str, slots: int, threads: int) -> Runtime:
    wanted = tuple(_CPU) if kind == "auto" else (kind,)
    installed = [name for name in wanted if importlib.util.find_spec(name) is not None]
    if not installed:
        commands = " or ".join(_CPU[name] for name in wanted)
        raise RuntimeUnavailableError(f"runtime {kind!r} needs a library that is not installed: {commands}")
    if installed[0] == "openvino":
        from eseg_ros.runtime.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(engine, slots, threads)
    from eseg_ros.runtime.onnxruntime_runtime import OnnxRuntimeRuntime

    return OnnxRuntimeRuntime(engine, slots, threads)
