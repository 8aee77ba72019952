"""TensorRT, version by version, as modules that have exactly the names of that version that matter here.

The names are those of the bindings' published sources: NVIDIA/TensorRT, python/src, tags 8.5.2, v8.6.1, v10.3.0,
v10.16 and v11.1; for TensorRT for RTX those of its wheel, which test_versions.py compares. A name that a version lacks
raises AttributeError, for a property that is set as well.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

TRT8 = ("8.5.2", "8.6.1")
VERSIONS = (*TRT8, "10.3.0", "10.16.1", "11.1.0", "1.7.1.116")
RTX = "1.7.1.116"


@dataclass
class World:
    """What happened, and what shall happen next.

    Attributes:
        calls: of the fakes, in order: name and arguments.
        fail: names of calls that fail the way TensorRT does: None or False, and a message to the logger.
        tensors: the built engine's (name, dtype, shape, mode).
    """

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    fail: set[str] = field(default_factory=set)
    tensors: list[tuple[str, str, tuple[int, ...], str]] = field(default_factory=list)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of that name."""
        return [call[1:] for call in self.calls if call[0] == name]


def _class(name: str, world: World, methods: dict[str, Callable[..., Any]], properties: dict[str, Any]) -> type:
    """A class with exactly these methods and properties; each setting of a property is a call."""

    def set_property(self: Any, key: str, value: Any) -> None:
        if key not in properties:
            raise AttributeError(f"{name} has no attribute {key!r}")
        world.calls.append((key, value))
        object.__setattr__(self, key, value)

    def recorded(key: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any) -> Any:
            world.calls.append((key, *arguments))
            return method(*arguments)

        return call

    members = {key: recorded(key, method) for key, method in methods.items()}
    return type(name, (), {**members, **properties, "__setattr__": set_property})


def _nothing(*_: Any) -> None:
    return None


def make_tensorrt(version: str, world: World) -> SimpleNamespace:
    """The module `tensorrt` of that version, or `tensorrt_rtx` for RTX's."""
    is_rtx = version == RTX
    has_8, has_10 = version in TRT8, version not in TRT8
    before_11 = has_8 or version.startswith("10.")
    after_85 = version != "8.5.2"

    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class ILogger:
        def __init__(self) -> None:
            self.is_initialized = True

    ILogger.Severity = Severity  # type: ignore[attr-defined]

    loggers: list[Any] = []

    def attempt(name: str, result: Any, failure: Any = None) -> Any:
        if name not in world.fail:
            return result
        loggers[-1].log(Severity.ERROR, f"{name} failed")
        return failure

    flags = [*(["EXPLICIT_BATCH"] if before_11 else []), *(["STRONGLY_TYPED"] if has_10 else [])]
    builder_flags = [
        *(["FP16", "INT8"] if before_11 else []),
        *("TF32", "DISABLE_TIMING_CACHE"),
        *(["VERSION_COMPATIBLE"] if after_85 else []),
    ]
    timing_cache = _class("ITimingCache", world, {"serialize": lambda: memoryview(b"timings")}, {})
    config = _class(
        "IBuilderConfig",
        world,
        {
            "set_flag": _nothing,
            "clear_flag": _nothing,
            "set_memory_pool_limit": _nothing,
            "create_timing_cache": lambda blob: attempt("create_timing_cache", timing_cache()),
            "set_timing_cache": lambda cache, ignore_mismatch: attempt("set_timing_cache", True, False),
            "get_timing_cache": timing_cache,
            **({"set_compute_capability": lambda capability, index: True} if is_rtx else {}),
        },
        {
            **({"max_workspace_size": 0} if has_8 else {}),
            **({"max_aux_streams": -1, "builder_optimization_level": 3} if after_85 else {}),
            **({"progress_monitor": None} if has_10 else {}),
            **({"num_compute_capabilities": 0} if is_rtx else {}),
        },
    )

    def build(network: Any, config: Any) -> Any:
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Timing", "Building engine", 1)
            monitor.step_complete("Timing", 0)
            monitor.phase_finish("Timing")
            if not monitor.step_complete("Building engine", 0):
                return None
            monitor.phase_finish("Building engine")
        return attempt("build_serialized_network", memoryview(b"a plan"))

    network_class = _class("INetworkDefinition", world, {}, {})
    builder_class = _class(
        "Builder",
        world,
        {
            "create_network": lambda flags: network_class(),
            "create_builder_config": config,
            "build_serialized_network": build,
            **({"build_engine": _nothing} if has_8 else {}),
        },
        {},
    )
    error = SimpleNamespace(node=lambda: 7, desc=lambda: "no importer")
    if has_10:
        error.node_operator, error.node_name = (lambda: "Frobnicate"), (lambda: "head/7")
    parser_class = _class(
        "OnnxParser",
        world,
        {"parse_from_file": lambda path: "parse" not in world.fail, "get_error": lambda index: error},
        {"num_errors": 1},
    )
    context_class = _class(
        "IExecutionContext",
        world,
        {
            "set_tensor_address": lambda name, address: attempt("set_tensor_address", True, False),
            "execute_async_v3": lambda stream: attempt("execute_async_v3", True, False),
            **({"execute_async_v2": _nothing} if has_8 else {}),
        },
        {},
    )

    def tensor(name: str) -> tuple[str, str, tuple[int, ...], str]:
        return next(tensor for tensor in world.tensors if tensor[0] == name)

    modes = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    types = enum.Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8"])
    engine_class = _class(
        "ICudaEngine",
        world,
        {
            "get_tensor_name": lambda index: world.tensors[index][0],
            "get_tensor_dtype": lambda name: types[tensor(name)[1]],
            "get_tensor_shape": lambda name: tensor(name)[2],
            "get_tensor_mode": lambda name: modes[tensor(name)[3]],
            "create_execution_context": lambda: attempt("create_execution_context", context_class()),
        },
        {
            "num_io_tensors": len(world.tensors),
            **({"num_bindings": len(world.tensors)} if has_8 else {}),
            **({"device_memory_size": 5 << 20} if before_11 else {}),
            **({"device_memory_size_v2": 5 << 20} if has_10 else {}),
        },
    )

    class Runtime:
        def __init__(self, logger: Any) -> None:
            loggers.append(logger)

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            world.calls.append(("deserialize_cuda_engine", plan))
            return attempt("deserialize_cuda_engine", engine_class())

    def make_builder(logger: Any) -> Any:
        loggers.append(logger)
        if "Builder" in world.fail:
            logger.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return builder_class()

    def make_parser(network: Any, logger: Any) -> Any:
        return parser_class()

    module = SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        Builder=make_builder,
        OnnxParser=make_parser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=enum.IntEnum("NetworkDefinitionCreationFlag", flags, start=0),
        BuilderFlag=enum.IntEnum("BuilderFlag", builder_flags, start=0),
        MemoryPoolType=enum.IntEnum("MemoryPoolType", ["WORKSPACE"]),
        TensorIOMode=modes,
        DataType=types,
    )
    if has_10:
        module.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    if is_rtx:
        names = ["NONE", "CURRENT", "SM120", "SM75", "SM80"]
        module.ComputeCapability = enum.IntEnum("ComputeCapability", names, start=0)
    return module


@pytest.fixture
def world() -> World:
    """What the fakes record and how they fail."""
    return World(tensors=[("image", "FLOAT", (1, 3, 64, 96), "INPUT"), ("logits", "FLOAT", (1, 11, 8, 12), "OUTPUT")])


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Every version."""
    return str(request.param)


@pytest.fixture
def trt(version: str, world: World) -> Any:
    """The module of `version`."""
    return make_tensorrt(version, world)
