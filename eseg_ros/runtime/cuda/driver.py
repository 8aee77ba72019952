"""The few calls that the pipeline makes into the CUDA driver, as an interface.

`pycuda` stands behind it by default, NVIDIA's own `cuda.bindings` where pycuda cannot be installed, and an emulator in
the tests, which runs the host build of the kernels and proves the order of the calls. All handles are plain integers;
an address and a stream are the driver API's own CUdeviceptr and CUstream, so that other libraries can be given them.

One thread makes every call, from `open` to `close`; only `launch_host`'s function runs elsewhere and makes none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from eseg_ros.runtime.types import Image8


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A GPU as found.

    Attributes:
        name: e.g. "NVIDIA H200".
        capability: compute capability, (major, minor).
        integrated: whether it shares the memory of the host, as on Jetson.
        driver_version: highest CUDA version that the driver supports, 1000 * major + 10 * minor.
        memory: bytes in all.
    """

    name: str
    capability: tuple[int, int]
    integrated: bool
    driver_version: int
    memory: int


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Page-locked host memory.

    Attributes:
        array: (N,) uint8, its bytes.
        address: device address of the same bytes if the buffer is mapped, else 0.
    """

    array: Image8
    address: int = 0


class Driver(Protocol):
    """The CUDA driver. Every call raises DeviceError when the driver refuses.

    After a lost device all of them do, but for those that free something and `close`: these only forget what is gone
    with the device, so that one way of cleaning up serves both cases. `open` then begins anew.
    """

    @property
    def name(self) -> str:
        """What stands behind it, for diagnostics, e.g. "pycuda 2026.1"."""

    def open(self, device: int) -> DeviceInfo:
        """Retain the device's primary context and make it current in the calling thread.

        Raises:
            RuntimeUnavailableError: no driver, or no such device, on this machine.
        """

    def close(self) -> None:
        """Pop the context and release it. Everything must have been freed before. May be called twice, and unopened."""

    def memory_free(self) -> int:
        """Bytes of device memory that are free."""

    def alloc(self, size: int) -> int:
        """Device memory, its address; aligned to 256 bytes."""

    def free(self, address: int) -> None:
        """Free what `alloc` gave."""

    def alloc_host(self, size: int, *, mapped: bool = False) -> HostBuffer:
        """Page-locked memory; `mapped` gives it a device address too."""

    def free_host(self, buffer: HostBuffer) -> None:
        """Free what `alloc_host` gave."""

    def copy_in(self, address: int, buffer: HostBuffer, size: int, stream: int) -> None:
        """Enqueue a copy of the first `size` bytes of `buffer` to the device."""

    def copy_out(self, buffer: HostBuffer, address: int, size: int, stream: int) -> None:
        """Enqueue a copy of `size` bytes from the device to the beginning of `buffer`."""

    def stream(self) -> int:
        """A new stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""

    def event(self, *, blocking: bool) -> int:
        """A new event with timing. A thread that waits for a blocking one sleeps, otherwise it spins."""

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""

    def record(self, event: int, stream: int) -> None:
        """Enqueue the event: it happens when all before it in the stream has.

        In a capture it becomes a part of the graph and happens at every launch, with its time (the driver API's
        CU_EVENT_RECORD_EXTERNAL): that is how the stages of a captured frame are timed.
        """

    def wait(self, stream: int, event: int) -> None:
        """Enqueue a wait: what comes later in the stream starts when the event has happened."""

    def happened(self, event: int) -> bool:
        """Whether all that the event was recorded behind is done. An event never recorded has happened."""

    def synchronize(self, event: int) -> None:
        """Wait in this thread until the event has happened."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events that have happened."""

    def launch_host(self, function: Callable[[], None], stream: int) -> None:
        """Enqueue a call of `function`, in a thread of the driver's; it must be short and make no call in here."""

    def load_module(self, image: bytes) -> int:
        """Load a fatbin, cubin or PTX.

        Raises:
            DeviceError: nothing in it runs on this device.
        """

    def unload_module(self, module: int) -> None:
        """Unload a module; its functions are gone."""

    def function(self, module: int, name: str) -> int:
        """A kernel of a module."""

    def launch(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: Any, stream: int
    ) -> None:
        """Enqueue a kernel whose one argument is a struct by value.

        `parameters` is a NumPy scalar of a structured dtype, see `eseg_ros.runtime.cuda.parameters`.
        """

    def begin_capture(self, stream: int) -> None:
        """Record what this thread enqueues on the stream from now on (thread-local mode) instead of running it.

        Until `end_capture` CUDA refuses all that allocates, frees or asks for events, and waits of this stream for
        events; each of these spoils the capture.
        """

    def end_capture(self, stream: int) -> int:
        """End the recording and make an executable graph of it.

        Raises:
            DeviceError: something that cannot be captured was enqueued; the stream works again.
        """

    def launch_graph(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""

    def destroy_graph(self, graph: int) -> None:
        """Destroy an executable graph."""
