"""What TensorRT 8.5, 8.6, 10, 11 and TensorRT for RTX differ in, in one place.

The library's module is an argument, `trt`, of every function: `tensorrt` or `tensorrt_rtx`, which have the same names.
A name that only some versions have is looked up before it is used; no version number is compared. Which version has
which name is in docs/engines.md and, as fakes that have exactly those, in test/runtime/tensorrt.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Collection
from typing import Any, Protocol

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.engine.plan import TARGETS, BuildOptions, Machine
from eseg_ros.errors import EngineError, RuntimeUnavailableError, UsageError
from eseg_ros.runtime.cuda.driver import DeviceInfo
from eseg_ros.runtime.tensors import TensorInfo

_MODULES = {"tensorrt": ("tensorrt",), "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}  # NVIDIA's kit, PyPI's wheel
_INSTALL = {
    "tensorrt": "on a desktop: pip install tensorrt; a Jetson has it from JetPack (python3-libnvinfer), and a virtual "
    "environment sees it only if made with --system-site-packages",
    "rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
}
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT8": "int8", "INT32": "int32", "BOOL": "bool"}

_log = logging.getLogger("eseg_ros.tensorrt")


def import_tensorrt(target: str) -> Any:
    """The module of a target.

    Args:
        target: a key of `plan.TARGETS`.

    Raises:
        RuntimeUnavailableError: it is not installed, or cannot be imported.
    """
    found = []
    for name in _MODULES[target]:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a shared library that it loads is missing
            found.append(str(error))
    raise RuntimeUnavailableError(f"{TARGETS[target]} cannot be used here: {'; '.join(found)}. {_INSTALL[target]}")


def machine_of(trt: Any, target: str, info: DeviceInfo) -> Machine:
    """The machine that runs `trt` on the GPU `info`."""
    major, minor = info.capability
    return Machine(
        target=target,
        version=str(trt.__version__),
        capabilities=(f"{major}.{minor}",),
        gpu=info.name,
        cuda=f"{info.driver_version // 1000}.{info.driver_version % 1000 // 10}",
    )


def machine_ahead(trt: Any, capabilities: Collection[str] = ()) -> Machine:
    """The machines that TensorRT for RTX builds for ahead of time, needing none of them.

    Args:
        trt: its module.
        capabilities: their compute capabilities, e.g. ("8.6",); all that it knows by default.

    Raises:
        UsageError: it does not know one of them.
    """
    known = _ahead_capabilities(trt)
    if unknown := [capability for capability in capabilities if capability not in known]:
        raise UsageError(
            f"TensorRT for RTX {trt.__version__} builds for compute capability {', '.join(known)}; not for "
            f"{', '.join(unknown)}. Use --target tensorrt on the machine itself"
        )
    return Machine("rtx", str(trt.__version__), tuple(name for name in known if name in (capabilities or known)))


def _ahead_capabilities(trt: Any) -> dict[str, Any]:
    """ "8.6" -> ComputeCapability.SM86, for all that the builder has."""
    named = {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    return {f"{name[2:-1]}.{name[-1]}": named[name] for name in sorted(named, key=lambda name: int(name[2:]))}


def make_logger(trt: Any) -> Any:
    """An ILogger to hand to TensorRT. It passes messages on to `logging`, but keeps errors for the exceptions' texts.

    Its `take_errors()` gives, in one line, what TensorRT called an error since the last call; "" if nothing.
    """
    severity = trt.ILogger.Severity

    class _Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, level: Any, message: str) -> None:
            """Called by TensorRT, from any thread."""
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self._errors.append(message.strip())
            _log.log(logging.WARNING if level == severity.WARNING else logging.DEBUG, "%s", message)

        def take_errors(self) -> str:
            errors, self._errors = self._errors, []
            return "; ".join(dict.fromkeys(errors))

    return _Logger()


def is_strongly_typed(trt: Any) -> bool:
    """Whether networks can be held to the ONNX file's own types: from TensorRT 10 on."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: Any) -> int:
    """Flags for `create_network`: the ONNX file's own types where that exists, else what TensorRT 8 needs for ONNX."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if is_strongly_typed(trt) else flags.EXPLICIT_BATCH)


def configure(trt: Any, config: Any, engine: EngineManifest, machine: Machine, options: BuildOptions) -> None:
    """Set up an `IBuilderConfig`.

    Float32 means float32: TF32, which TensorRT takes by default, is off. Where networks are not strongly typed, the
    types that the ONNX file uses are allowed, which is all that TensorRT 8 lets one say. One stream only, because
    scratch memory is an order of magnitude smaller so.

    Raises:
        UsageError: this version has no such option.
    """
    config.clear_flag(trt.BuilderFlag.TF32)
    if not is_strongly_typed(trt):
        if "float16" in (engine.input.dtype, engine.output.dtype) or engine.precision == "fp16":
            config.set_flag(trt.BuilderFlag.FP16)
        if engine.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if hasattr(config, "max_aux_streams"):
        config.max_aux_streams = 0
    if options.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise UsageError(f"{machine} has no optimization levels; leave out --optimization-level")
        config.builder_optimization_level = options.optimization_level
    if machine.target == "rtx":
        ahead = _ahead_capabilities(trt)
        config.num_compute_capabilities = len(machine.capabilities)
        for index, capability in enumerate(machine.capabilities):
            config.set_compute_capability(ahead[capability], index)


class Progress(Protocol):
    """Follows a build; TensorRT calls it from threads of its own, one call at a time."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins within `parent`; None is the whole build."""

    def step(self, phase: str, done: int) -> None:
        """`done` steps of the phase are done."""

    def finish(self, phase: str) -> None:
        """The phase is over, maybe early."""


def follow(trt: Any, config: Any, progress: Progress) -> Any:
    """Let `progress` follow the build, where the version can tell: from TensorRT 10 on.

    Returns:
        The monitor, which must live as long as `config` and whose `cancelled` says that the user pressed Ctrl-C; None
        where there is none.
    """
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class _Monitor(trt.IProgressMonitor):
        cancelled = False

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._report(progress.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._report(progress.step, phase_name, step + 1)
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            self._report(progress.finish, phase_name)

        def _report(self, method: Any, *arguments: Any) -> None:
            try:
                with self._lock:
                    if not self.cancelled:
                        method(*arguments)
            except KeyboardInterrupt:  # arrives here if it is this thread's; TensorRT would only print it
                self.cancelled = True

    monitor = _Monitor()
    config.progress_monitor = monitor
    return monitor


def parser_errors(parser: Any) -> str:
    """What the ONNX parser has to say, in one line."""
    return "; ".join(_parser_error(parser.get_error(index)) for index in range(parser.num_errors))


def _parser_error(error: Any) -> str:
    operator = f" ({error.node_operator()} {error.node_name()})" if hasattr(error, "node_operator") else ""
    return f"node {error.node()}{operator}: {error.desc()}"


def io_tensors(trt: Any, engine: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """The inputs and the outputs of an `ICudaEngine`."""
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        info = TensorInfo(name, _DTYPES.get(dtype, dtype), tuple(engine.get_tensor_shape(name)))
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(info)
    return inputs, outputs


def scratch_bytes(engine: Any) -> int:
    """Device memory that an execution context of an `ICudaEngine` needs, bytes."""
    newer = hasattr(engine, "device_memory_size_v2")  # the older one is 32 bits wide, and gone in 11
    return int(engine.device_memory_size_v2 if newer else engine.device_memory_size)


def deserialize(trt: Any, plan: bytes, logger: Any) -> Any:
    """The plan's ICudaEngine, which keeps what it was made with alive; takes seconds.

    Raises:
        EngineError: TensorRT cannot read the plan.
    """
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"TensorRT cannot read it: {logger.take_errors() or 'it gives no reason'}")
    return engine
