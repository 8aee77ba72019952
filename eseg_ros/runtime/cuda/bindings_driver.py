"""The CUDA driver through NVIDIA's cuda.bindings, a wheel that needs neither toolkit nor compiler."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo, HostBuffer
from eseg_ros.runtime.cuda.libcuda import CudaError
from eseg_ros.runtime.cuda.native_driver import (
    STREAM_NON_BLOCKING,
    NativeDriver,
    address_of,
    first_bytes,
    freeing,
    import_library,
    refusing,
)

_HOST_ALLOC_DEVICEMAP = 2


class BindingsDriver(NativeDriver):
    """Memory, copies, streams and kernels are cuda.bindings'; events, graphs and host functions see NativeDriver.

    Raises:
        RuntimeUnavailableError: no NVIDIA driver, or no cuda.bindings.
    """

    def __init__(self) -> None:
        super().__init__()
        self._api = import_library("cuda.bindings.driver", "install it: pip install cuda-bindings")
        self._device: int | None = None

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"cuda.bindings {importlib.import_module('cuda.bindings').__version__}"

    def open(self, device: int) -> DeviceInfo:
        """See `Driver.open`."""
        try:
            self._cuda("cuInit", 0)
            self._cuda("cuDeviceGet", device)
        except CudaError as error:
            name, text = self.libcuda.describe(error.code)
            raise RuntimeUnavailableError(
                f"there is no CUDA device {device} ({error.call}: {name}, {text}); nvidia-smi lists them"
            ) from error
        return self._enter(device)

    @refusing
    def _enter(self, device: int) -> DeviceInfo:
        attribute = self._api.CUdevice_attribute
        major, minor, integrated = (
            int(self._cuda("cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), device))
            for name in ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "INTEGRATED")
        )
        info = DeviceInfo(
            name=self._cuda("cuDeviceGetName", 256, device).split(b"\0")[0].decode(),
            capability=(major, minor),
            integrated=bool(integrated),
            driver_version=int(self._cuda("cuDriverGetVersion")),
            memory=int(self._cuda("cuDeviceTotalMem", device)),
        )
        context = self._cuda("cuDevicePrimaryCtxRetain", device)
        self._device = device
        self._cuda("cuCtxPushCurrent", context)
        return info

    def close(self) -> None:
        """See `Driver.close`."""
        device, self._device = self._device, None
        if device is not None:
            self.balance()
            self._leave(device)
            self.reset_lost(device)

    @freeing
    def _leave(self, device: int) -> None:
        try:
            self._cuda("cuCtxPopCurrent")
        finally:
            self._cuda("cuDevicePrimaryCtxRelease", device)

    @refusing
    def memory_free(self) -> int:
        """See `Driver.memory_free`."""
        free, _ = self._cuda("cuMemGetInfo")
        return int(free)

    @refusing
    def alloc(self, size: int) -> int:
        """See `Driver.alloc`."""
        self.settle()
        return self.keep("device memory", int(self._cuda("cuMemAlloc", size)))

    @freeing
    def free(self, address: int) -> None:
        """See `Driver.free`."""
        self.drop("device memory", address)
        self.settle()
        self._cuda("cuMemFree", address)

    @refusing
    def alloc_host(self, size: int, *, mapped: bool = False) -> HostBuffer:
        """See `Driver.alloc_host`."""
        self.settle()
        host = int(self._cuda("cuMemHostAlloc", size, _HOST_ALLOC_DEVICEMAP if mapped else 0))
        self.keep("page-locked memory", host)
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))
        return HostBuffer(array, int(self._cuda("cuMemHostGetDevicePointer", host, 0)) if mapped else 0)

    @freeing
    def free_host(self, buffer: HostBuffer) -> None:
        """See `Driver.free_host`."""
        host = address_of(buffer.array)
        self.drop("page-locked memory", host)
        self.settle()
        self._cuda("cuMemFreeHost", host)

    @refusing
    def copy_in(self, address: int, buffer: HostBuffer, size: int, stream: int) -> None:
        """See `Driver.copy_in`."""
        self._cuda("cuMemcpyHtoDAsync", address, address_of(first_bytes(buffer, size)), size, stream)

    @refusing
    def copy_out(self, buffer: HostBuffer, address: int, size: int, stream: int) -> None:
        """See `Driver.copy_out`."""
        self._cuda("cuMemcpyDtoHAsync", address_of(first_bytes(buffer, size)), address, size, stream)

    @refusing
    def stream(self) -> int:
        """See `Driver.stream`."""
        return self.keep("stream", int(self._cuda("cuStreamCreate", STREAM_NON_BLOCKING)))

    @freeing
    def destroy_stream(self, stream: int) -> None:
        """See `Driver.destroy_stream`."""
        self.drop("stream", stream)
        self._cuda("cuStreamDestroy", stream)

    @refusing
    def load_module(self, image: bytes) -> int:
        """See `Driver.load_module`."""
        self.settle()
        return self.keep("module", int(self._cuda("cuModuleLoadData", image)))

    @freeing
    def unload_module(self, module: int) -> None:
        """See `Driver.unload_module`."""
        self.drop("module", module)
        self.settle()
        self._cuda("cuModuleUnload", module)

    @refusing
    def function(self, module: int, name: str) -> int:
        """See `Driver.function`."""
        self.kept("module", module)
        return int(self._cuda("cuModuleGetFunction", module, name.encode()))

    @refusing
    def launch(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: Any, stream: int
    ) -> None:
        """See `Driver.launch`."""
        struct = np.array(parameters)
        pointers = np.array([struct.ctypes.data], np.uint64)  # one argument; it is copied before the call returns
        self._cuda("cuLaunchKernel", function, *grid, *block, 0, stream, pointers.ctypes.data, 0)

    def _cuda(self, name: str, *arguments: Any) -> Any:
        """Call a function of cuda.bindings: what it returns behind its CUresult, alone if it is one value.

        Raises:
            CudaError: it failed.
        """
        code, *values = getattr(self._api, name)(*arguments)
        if code:
            raise CudaError(name, int(code))
        return values[0] if len(values) == 1 else values
