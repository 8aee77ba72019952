"""Calls into libcuda itself: what pycuda has no name for, and what every driver would otherwise have to write again.

pycuda knows neither captures nor graphs nor host functions, and it keeps an event's handle to itself, without which the
event cannot be recorded inside a graph. All of these are plain C functions that have not changed since CUDA 11.4.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_uint, c_ulonglong, c_void_p
from typing import Any

from eseg_ros.errors import RuntimeUnavailableError

HOST_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p)
"""CUhostFn."""

EVENT_BLOCKING_SYNC = 1
RECORD_EXTERNAL = 1
CAPTURE_THREAD_LOCAL = 1
ERROR_NOT_READY = 600

_HANDLE = POINTER(c_void_p)
_SIGNATURES = {
    "cuCtxPopCurrent_v2": (_HANDLE,),
    "cuCtxSynchronize": (),
    "cuDevicePrimaryCtxReset_v2": (c_int,),
    "cuEventCreate": (_HANDLE, c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventQuery": (c_void_p,),
    "cuEventRecordWithFlags": (c_void_p, c_void_p, c_uint),
    "cuEventSynchronize": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphInstantiateWithFlags": (_HANDLE, c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuLaunchHostFunc": (c_void_p, HOST_FUNCTION, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, _HANDLE),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
}
"""By the names in the library: a suffix is a version, which cuda.h hides."""


class CudaError(Exception):
    """A call returned something else than CUDA_SUCCESS.

    Attributes:
        call: the function's name.
        code: its CUresult.
    """

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: CUresult {code}")
        self.call = call
        self.code = code


class LibCuda:
    """The driver API of this machine, as far as it is used here. ctypes lets other threads run during every call.

    Raises:
        RuntimeUnavailableError: the NVIDIA driver is missing or too old.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise RuntimeUnavailableError(
                f"this machine has no NVIDIA driver ({error}); install it, or choose a runtime for the CPU"
            ) from error
        for name, types in _SIGNATURES.items():
            try:
                getattr(self._library, name).argtypes = types
            except AttributeError as error:
                raise RuntimeUnavailableError(
                    f"the NVIDIA driver is too old, it has no {name}; expected one for CUDA 11.4 or newer"
                ) from error

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            CudaError: it failed.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(name, code)

    def create(self, name: str, *arguments: Any) -> int:
        """Call a function that writes a handle to where its first argument points; returns the handle."""
        handle = c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def query_event(self, event: int) -> bool:
        """Whether an event has happened."""
        try:
            self.call("cuEventQuery", event)
        except CudaError as error:
            if error.code == ERROR_NOT_READY:
                return False
            raise
        return True

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events."""
        time = c_float()
        self.call("cuEventElapsedTime", ctypes.byref(time), start, end)
        return time.value

    def end_capture(self, stream: int) -> int:
        """The executable graph of what was captured."""
        graph = c_void_p()
        self.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            return self.create("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self.call("cuGraphDestroy", graph)

    def describe(self, code: int) -> tuple[str, str]:
        """A CUresult's name, e.g. "CUDA_ERROR_OUT_OF_MEMORY", and what it says, e.g. "out of memory"."""
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            getattr(self._library, function)(code, ctypes.byref(text))
            texts.append(text.value.decode() if text.value else f"CUresult {code}")
        return texts[0], texts[1]

    def code_of(self, description: str) -> int:
        """The CUresult that says this, or 999, CUDA_ERROR_UNKNOWN."""
        return next((code for code in range(1, 1000) if self.describe(code)[1] == description), 999)
