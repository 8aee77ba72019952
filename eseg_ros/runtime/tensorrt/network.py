"""An engine on the device by TensorRT: the plan that was built for this machine, loaded, checked and run."""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from eseg_ros.engine.manifest import Engine, EngineManifest
from eseg_ros.engine.plan import TARGETS, Machine, Plan, build_command, read_plan
from eseg_ros.engine.plan_cache import default_cache, find_plan
from eseg_ros.errors import DeviceError, EngineError
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.tensorrt import api
from eseg_ros.runtime.tensors import TensorInfo, expected_tensors, in_words

_DTYPES: dict[str, np.dtype[np.floating]] = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}


class TensorRtNetwork:
    """A `DeviceNetwork` whose plan comes from the plan cache.

    Args:
        engine: what to run.
        target: "tensorrt", or "rtx" for TensorRT for RTX.
        cache: folder of the plans; None for `plan_cache.default_cache()`.
        auto_build: build the plan while loading if it is missing, which takes minutes, instead of saying how.
        trt: the library's module; None imports the target's.

    Attributes:
        plan: what it runs; None before `load`.
    """

    name = "tensorrt"

    def __init__(
        self,
        engine: Engine,
        target: str = "tensorrt",
        cache: Path | None = None,
        auto_build: bool = False,
        trt: Any = None,
    ) -> None:
        self._engine = engine
        self._target = target
        self._cache = cache or default_cache()
        self._auto_build = auto_build
        self._trt = trt
        self.plan: Plan | None = None
        self._logger: Any = None
        self._cuda_engine: Any = None
        self._context: Any = None
        self._tensors: tuple[TensorInfo, TensorInfo]
        self.description = f"{TARGETS[target]}, not loaded"
        self.scratch_bytes = 0

    @property
    def manifest(self) -> EngineManifest:
        """The engine."""
        return self._engine.manifest

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """float32 or float16."""
        return _DTYPES[self._tensors[0].dtype]

    @property
    def output_dtype(self) -> np.dtype[np.floating]:
        """float32 or float16."""
        return _DTYPES[self._tensors[1].dtype]

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        """Find the plan, check it, load it and run it once.

        The checks come in this order: manifest, hash, TensorRT version, compute capability, tensors, warm-up.

        Raises:
            RuntimeUnavailableError: TensorRT is not installed.
            EngineError: there is no plan, or it must not or cannot be run here; the message has the command that mends
                it.
            DeviceError: its first inference failed.
        """
        trt = self._trt = self._trt or api.import_tensorrt(self._target)
        machine = api.machine_of(trt, self._target, info)
        plan = self.plan = self._find_plan(machine)
        content = read_plan(plan, machine)
        self._logger = api.make_logger(trt)
        try:
            self._cuda_engine = api.deserialize(trt, content, self._logger)
            self._tensors = self._checked_tensors()
            self._context = self._create_context()
            self._warm_up(driver)
        except (EngineError, DeviceError) as error:
            self.close()
            raise type(error)(
                f"{plan.path}: {error}. It was built with {plan.manifest.machine}; this machine has {machine}. "
                f"Delete it and build it again: rm {quote(str(plan.path))}; "
                f"{build_command(plan.manifest.source, self._target)}"
            ) from error
        self.scratch_bytes = api.scratch_bytes(self._cuda_engine)
        self.description = f"{TARGETS[self._target]} {machine.version}, {self.manifest.precision}"

    def _find_plan(self, machine: Machine) -> Plan:
        if not self._auto_build:
            return find_plan(self._engine, machine, self._cache)
        from eseg_ros.engine.build import find_or_build_plan

        return find_or_build_plan(self._trt, self._engine, machine, self._cache)

    def _checked_tensors(self) -> tuple[TensorInfo, TensorInfo]:
        """The input and the output, held to the manifest."""
        expected = expected_tensors(self.manifest)
        inputs, outputs = api.io_tensors(self._trt, self._cuda_engine)
        if (inputs, outputs) != ([expected[0]], [expected[1]]):
            found = in_words((*inputs, *outputs))
            raise EngineError(f"its tensors are {found}, but the engine's manifest says {in_words(expected)}")
        return expected

    def _create_context(self) -> Any:
        context = self._cuda_engine.create_execution_context()
        if context is None:
            needed = api.scratch_bytes(self._cuda_engine) >> 20
            raise DeviceError(
                f"TensorRT cannot make an execution context, which needs {needed} MiB: {self._logger.take_errors()}"
            )
        return context

    def _warm_up(self, driver: Driver) -> None:
        """One inference on tensors of its own. What TensorRT does only once, it does now."""
        with ExitStack() as held:
            stream = driver.stream()
            held.callback(driver.destroy_stream, stream)
            done = driver.event(blocking=True)
            held.callback(driver.destroy_event, done)
            addresses = []
            for tensor in self._tensors:
                addresses.append(driver.alloc(prod(map(int, tensor.shape)) * _DTYPES[tensor.dtype].itemsize))
                held.callback(driver.free, addresses[-1])
            self.bind(*addresses)
            self.enqueue(stream)
            driver.record(done, stream)
            driver.synchronize(done)

    def bind(self, input_address: int, output_address: int) -> None:
        """Use the tensors at these device addresses from now on.

        Raises:
            DeviceError: TensorRT refuses one of them.
        """
        for tensor, address in zip(self._tensors, (input_address, output_address), strict=True):
            if not self._context.set_tensor_address(tensor.name, address):
                raise DeviceError(
                    f"TensorRT refuses address {address:#x} for {tensor.name!r}: {self._logger.take_errors()}"
                )

    def enqueue(self, stream: int) -> None:
        """Enqueue one inference; the interpreter's lock is free meanwhile.

        Raises:
            DeviceError: TensorRT refuses.
        """
        if not self._context.execute_async_v3(stream):
            raise DeviceError(f"TensorRT failed while running {self._engine.onnx.name}: {self._logger.take_errors()}")

    def close(self) -> None:
        """Free the engine. May be called twice, and without `load`."""
        self._context = None  # the last references: TensorRT has no call that frees
        self._cuda_engine = None
