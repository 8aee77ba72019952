"""What the drivers on the real API have in common: events, graphs, host functions, errors, and the lost device."""

from __future__ import annotations

import importlib
import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import HostBuffer
from eseg_ros.runtime.cuda.libcuda import (
    CAPTURE_THREAD_LOCAL,
    EVENT_BLOCKING_SYNC,
    HOST_FUNCTION,
    RECORD_EXTERNAL,
    CudaError,
    LibCuda,
)
from eseg_ros.runtime.types import Image8

STREAM_NON_BLOCKING = 1

_LOST = {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}
"""CUresults after which nothing in the context works any more, e.g. 214 ECC_UNCORRECTABLE, 700 ILLEGAL_ADDRESS."""

_ADVICE = {
    2: "Give the GPU's memory more room: fewer slots, a smaller engine, or end other programs (nvidia-smi shows them)",
    200: "The file with the kernels is damaged: install eseg_ros again",
    209: "The kernels were not compiled for this GPU",
    222: "The kernels were compiled by a newer CUDA than this driver knows: update the driver",
}
_ADVICE_LOST = (
    "The device is lost: configure the node again. If that does not help, restart it, and look for the driver's "
    "reason: sudo dmesg | grep -i xid"
)

_Driver = TypeVar("_Driver", bound="NativeDriver")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def refusing(method: Callable[Concatenate[_Driver, _P], _R]) -> Callable[Concatenate[_Driver, _P], _R]:
    """A call of the protocol: DeviceError when the driver refuses, and always once the device is lost."""

    @wraps(method)
    def call(driver: _Driver, /, *arguments: _P.args, **named: _P.kwargs) -> _R:
        if driver.lost:
            raise DeviceError(driver.lost)
        try:
            return method(driver, *arguments, **named)
        except driver.errors as error:
            raise driver.explain(error) from error

    return call


def freeing(method: Callable[Concatenate[_Driver, _P], None]) -> Callable[Concatenate[_Driver, _P], None]:
    """A call of the protocol that frees something: quiet once the device is lost, and all on it with it."""

    @wraps(method)
    def call(driver: _Driver, /, *arguments: _P.args, **named: _P.kwargs) -> None:
        try:
            method(driver, *arguments, **named)
        except driver.errors as error:
            failure = driver.explain(error)
            if not driver.lost:
                raise failure from error

    return call


def import_library(module: str, remedy: str) -> Any:
    """A library's module.

    Raises:
        RuntimeUnavailableError: it cannot be imported; the message ends in `remedy`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeUnavailableError(f"{module} cannot be imported ({error}); {remedy}") from error


class NativeDriver(ABC):
    """The half of the protocol that is the same for all, and the books of what must be freed.

    Attributes:
        errors: what the calls below raise when the driver refuses.
        lost: why every call fails from now on; empty while the device works.
    """

    errors: tuple[type[Exception], ...] = (CudaError,)

    def __init__(self) -> None:
        self.lost = ""
        self.libcuda = LibCuda()
        self._kept: dict[str, dict[int, Any]] = {}
        self._capturing = 0
        self._captured_functions: list[int] = []
        self._host_functions: dict[int, tuple[Callable[[], None], bool]] = {}  # and whether a graph calls it again
        self._tokens = itertools.count(1)
        self._trampoline = HOST_FUNCTION(self._run_host_function)

    @property
    @abstractmethod
    def name(self) -> str:
        """See `Driver.name`."""

    # Events.

    @refusing
    def event(self, *, blocking: bool) -> int:
        """See `Driver.event`."""
        event = self.libcuda.create("cuEventCreate", EVENT_BLOCKING_SYNC if blocking else 0)
        return self.keep("event", event)

    @freeing
    def destroy_event(self, event: int) -> None:
        """See `Driver.destroy_event`."""
        self.drop("event", event)
        self.libcuda.call("cuEventDestroy_v2", event)

    @refusing
    def record(self, event: int, stream: int) -> None:
        """See `Driver.record`."""
        flags = RECORD_EXTERNAL if stream == self._capturing else 0
        self.libcuda.call("cuEventRecordWithFlags", event, stream, flags)

    @refusing
    def wait(self, stream: int, event: int) -> None:
        """See `Driver.wait`."""
        self.libcuda.call("cuStreamWaitEvent", stream, event, 0)

    @refusing
    def happened(self, event: int) -> bool:
        """See `Driver.happened`."""
        return self.libcuda.query_event(event)

    @refusing
    def synchronize(self, event: int) -> None:
        """See `Driver.synchronize`."""
        self.libcuda.call("cuEventSynchronize", event)

    @refusing
    def elapsed_ms(self, start: int, end: int) -> float:
        """See `Driver.elapsed_ms`."""
        return self.libcuda.elapsed_ms(start, end)

    # Host functions.

    @refusing
    def launch_host(self, function: Callable[[], None], stream: int) -> None:
        """See `Driver.launch_host`."""
        token = next(self._tokens)
        captured = stream == self._capturing
        self._host_functions[token] = function, captured
        try:
            self.libcuda.call("cuLaunchHostFunc", stream, self._trampoline, token)
        except CudaError:
            del self._host_functions[token]
            raise
        if captured:
            self._captured_functions.append(token)

    def _run_host_function(self, token: int) -> None:
        """In a thread of the driver's."""
        function, again = self._host_functions[token]
        if not again:
            del self._host_functions[token]
        function()

    # Captures and graphs.

    @refusing
    def begin_capture(self, stream: int) -> None:
        """See `Driver.begin_capture`."""
        self.libcuda.call("cuStreamBeginCapture_v2", stream, CAPTURE_THREAD_LOCAL)
        self._capturing = stream

    @refusing
    def end_capture(self, stream: int) -> int:
        """See `Driver.end_capture`."""
        functions, self._captured_functions = self._captured_functions, []
        self._capturing = 0
        try:
            return self.keep("graph", self.libcuda.end_capture(stream), functions)
        except CudaError:
            self._forget_functions(functions)
            raise

    @refusing
    def launch_graph(self, graph: int, stream: int) -> None:
        """See `Driver.launch_graph`."""
        self.libcuda.call("cuGraphLaunch", graph, stream)

    @freeing
    def destroy_graph(self, graph: int) -> None:
        """See `Driver.destroy_graph`."""
        self._forget_functions(self.drop("graph", graph))
        self.libcuda.call("cuGraphExecDestroy", graph)

    def _forget_functions(self, tokens: list[int]) -> None:
        for token in tokens:
            del self._host_functions[token]

    # The books.

    def keep(self, kind: str, handle: int, thing: Any = None) -> int:
        """Enter what must be freed; returns its handle."""
        self._kept.setdefault(kind, {})[handle] = thing
        return handle

    def kept(self, kind: str, handle: int) -> Any:
        """The thing behind a handle.

        Raises:
            DeviceError: there is none, or no more.
        """
        try:
            return self._kept[kind][handle]
        except KeyError:
            raise DeviceError(f"{handle:#x} is no {kind} of this driver, or was freed before") from None

    def drop(self, kind: str, handle: int) -> Any:
        """The thing behind a handle, no longer in the books.

        Raises:
            DeviceError: there is none, or no more.
        """
        thing = self.kept(kind, handle)
        del self._kept[kind][handle]
        return thing

    def settle(self) -> None:
        """Wait, letting other threads run, until the device is idle and has called all host functions.

        What allocates, frees, loads or unloads may itself wait for the device; pycuda, and cuda.bindings before 12.9,
        then keep the interpreter to themselves, and would wait for ever for a host function enqueued before. So each
        of these calls settles the device first.
        """
        if not self.lost:
            self.libcuda.call("cuCtxSynchronize")

    @freeing
    def balance(self) -> None:
        """At `close`: warn of what was not freed, and forget it."""
        left = [f"{len(things)} x {kind}" for kind, things in self._kept.items() if things]
        if left:
            warnings.warn(f"the CUDA driver is closed before these were freed: {', '.join(left)}", ResourceWarning, 4)
        self._kept.clear()
        self._captured_functions.clear()
        self._capturing = 0
        try:
            self.settle()
        finally:
            self._host_functions.clear()

    def reset_lost(self, device: int) -> None:
        """At `close`, after the context was released: what else holds on to a lost one loses it, so `open` may work."""
        if self.lost:
            with suppress(CudaError):
                self.libcuda.call("cuDevicePrimaryCtxReset_v2", device)
        self.lost = ""

    # Errors.

    def failure_of(self, error: Exception) -> tuple[str, int, str]:
        """The call that failed, its CUresult, and what that says."""
        assert isinstance(error, CudaError)
        return error.call, error.code, self.libcuda.describe(error.code)[1]

    def explain(self, error: Exception) -> DeviceError:
        """What failed, why, and what to do."""
        call, code, text = self.failure_of(error)
        message = f"{call}: {self.libcuda.describe(code)[0]} ({text})"
        if code in _LOST:
            self.lost = f"{message}. {_ADVICE_LOST}"
            return DeviceError(self.lost)
        return DeviceError(f"{message}. {_ADVICE[code]}" if code in _ADVICE else message)


def first_bytes(buffer: HostBuffer, size: int) -> Image8:
    """The first `size` bytes of a buffer, a view.

    Raises:
        ValueError: it has fewer.
    """
    if size > buffer.array.size:
        raise ValueError(f"{size} bytes are copied to or from a page-locked buffer of {buffer.array.size}")
    return buffer.array[:size]


def address_of(array: Image8) -> int:
    """Host address of an array's first byte."""
    return int(array.__array_interface__["data"][0])
