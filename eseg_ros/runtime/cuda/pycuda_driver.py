"""The CUDA driver through pycuda."""

from __future__ import annotations

import importlib
import itertools
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


class PycudaDriver(NativeDriver):
    """Memory, copies, streams and kernels are pycuda's; events, graphs and host functions see NativeDriver.

    pycuda's objects free what they hold when their last reference goes, and do so only in the thread that has the
    context. So there is one reference, here, and each is freed by its own call.

    Raises:
        RuntimeUnavailableError: no NVIDIA driver, or no pycuda that works with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._api = import_library(
            "pycuda.driver",
            "install it where the CUDA toolkit is: pip install pycuda; without the toolkit: pip install cuda-bindings",
        )
        self.errors = (CudaError, self._api.Error)
        self._context: Any = None
        self._device = 0
        self._numbers = itertools.count(1)  # handles of what pycuda gives none
        self._kernels: dict[int, tuple[int, Any]] = {}  # handle -> module's handle, pycuda's function, which holds it

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"pycuda {importlib.import_module('pycuda').VERSION_TEXT}"

    def open(self, device: int) -> DeviceInfo:
        """See `Driver.open`."""
        api = self._api
        try:
            api.init()
            found = api.Device(device)
        except api.Error as error:
            raise RuntimeUnavailableError(
                f"there is no CUDA device {device} ({error}); nvidia-smi lists them"
            ) from error
        return self._enter(device, found)

    @refusing
    def _enter(self, number: int, device: Any) -> DeviceInfo:
        info = DeviceInfo(
            name=device.name(),
            capability=device.compute_capability(),
            integrated=bool(device.get_attribute(self._api.device_attribute.INTEGRATED)),
            driver_version=self._api.get_driver_version(),
            memory=device.total_memory(),
        )
        context = device.retain_primary_context()
        context.push()
        self._device, self._context = number, context
        return info

    def close(self) -> None:
        """See `Driver.close`."""
        context, self._context = self._context, None
        if context is not None:
            self._kernels.clear()
            self.balance()
            self._leave(context)
            self.reset_lost(self._device)

    @freeing
    def _leave(self, context: Any) -> None:
        """Pop and release. pycuda's own `pop` and then `detach` would leave the context pushed for ever."""
        try:
            self.libcuda.create("cuCtxPopCurrent_v2")
        finally:
            context.detach()

    @refusing
    def memory_free(self) -> int:
        """See `Driver.memory_free`."""
        return int(self._api.mem_get_info()[0])

    @refusing
    def alloc(self, size: int) -> int:
        """See `Driver.alloc`."""
        self.settle()
        allocation = self._api.mem_alloc(size)
        return self.keep("device memory", int(allocation), allocation)

    @freeing
    def free(self, address: int) -> None:
        """See `Driver.free`."""
        allocation = self.drop("device memory", address)
        self.settle()
        allocation.free()

    @refusing
    def alloc_host(self, size: int, *, mapped: bool = False) -> HostBuffer:
        """See `Driver.alloc_host`."""
        self.settle()
        flags = self._api.host_alloc_flags.DEVICEMAP if mapped else 0
        array = self._api.pagelocked_empty(size, np.uint8, mem_flags=flags)
        buffer = HostBuffer(array, int(array.base.get_device_pointer()) if mapped else 0)
        self.keep("page-locked memory", address_of(array), array.base)
        return buffer

    @freeing
    def free_host(self, buffer: HostBuffer) -> None:
        """See `Driver.free_host`."""
        allocation = self.drop("page-locked memory", address_of(buffer.array))
        self.settle()
        allocation.free()

    @refusing
    def copy_in(self, address: int, buffer: HostBuffer, size: int, stream: int) -> None:
        """See `Driver.copy_in`."""
        self._api.memcpy_htod_async(address, first_bytes(buffer, size), self.kept("stream", stream))

    @refusing
    def copy_out(self, buffer: HostBuffer, address: int, size: int, stream: int) -> None:
        """See `Driver.copy_out`."""
        self._api.memcpy_dtoh_async(first_bytes(buffer, size), address, self.kept("stream", stream))

    @refusing
    def stream(self) -> int:
        """See `Driver.stream`."""
        stream = self._api.Stream(STREAM_NON_BLOCKING)
        return self.keep("stream", int(stream.handle), stream)

    @freeing
    def destroy_stream(self, stream: int) -> None:
        """See `Driver.destroy_stream`."""
        self.drop("stream", stream)

    @refusing
    def load_module(self, image: bytes) -> int:
        """See `Driver.load_module`."""
        self.settle()
        return self.keep("module", next(self._numbers), self._api.module_from_buffer(image))

    @freeing
    def unload_module(self, module: int) -> None:
        """See `Driver.unload_module`."""
        self._kernels = {handle: kernel for handle, kernel in self._kernels.items() if kernel[0] != module}
        loaded = self.drop("module", module)
        self.settle()
        del loaded  # the last reference

    @refusing
    def function(self, module: int, name: str) -> int:
        """See `Driver.function`."""
        handle = next(self._numbers)
        self._kernels[handle] = module, self.kept("module", module).get_function(name)
        return handle

    @refusing
    def launch(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: Any, stream: int
    ) -> None:
        """See `Driver.launch`."""
        kernel = self._kernels[function][1]
        kernel(parameters, grid=grid, block=block, stream=self.kept("stream", stream))

    def failure_of(self, error: Exception) -> tuple[str, int, str]:
        """pycuda's errors have no code but say, e.g., "cuMemAlloc failed: out of memory", with a log after a dash."""
        if isinstance(error, CudaError):
            return super().failure_of(error)
        call, _, text = str(error).partition(" failed: ")
        return call, self.libcuda.code_of(text.partition(" - ")[0]), text
