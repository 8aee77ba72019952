"""A CUDA driver without a GPU: runs the host build of the kernels in an order that streams and events only just allow.

Device memory is host memory at its true address. What is enqueued runs when something forces it to, in a random order
that respects streams, events and graphs and nothing else. Two operations on the same bytes that nothing orders are a
`MisuseError`, whether or not they happened to run in the right order; so are a page-locked buffer that the host writes
while a queued copy still reads it, memory that is freed while queued work needs it, a call from the wrong thread, a
leak at `close`, and whatever else real hardware would punish on some other day. What a queued operation will write to
page-locked memory is garbage until it ran.
"""

from __future__ import annotations

import functools
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo, HostBuffer
from eseg_ros.runtime.cuda.parameters import ENCODINGS, LIVE, POSTPROCESS, PREPROCESS
from eseg_ros.runtime.types import Image8

Span = tuple[int, int]
"""Addresses: the first byte, and one past the last."""

_FRESH, _PENDING, _FREED, _GUARD = 0xA5, 0xDB, 0xDD, 0x5C
_GUARD_BYTES = 256
_PATIENCE = 30.0
"""Seconds after which something that should have ended counts as hung."""

_DEVICE_MEMORY = ("device", "mapped")
_ANY_MEMORY = ("device", "mapped", "page-locked")
"""What a device address can point to, and what a copy can start from or end in."""

_FREEING = {"close", "free", "free_host", "destroy_stream", "destroy_event", "destroy_graph", "unload_module"}
_NOT_IN_CAPTURE = {
    *("alloc", "free", "alloc_host", "free_host", "load_module", "unload_module"),
    *("happened", "synchronize", "elapsed_ms"),
}
"""What the driver refuses, invalidating the capture, in a thread that captures in thread-local mode."""


class MisuseError(AssertionError):
    """The driver was used in a way that real hardware punishes, if only sometimes."""


class Call(NamedTuple):
    """One call as it was made."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Operation:
    """Work on a stream, or in a graph.

    Attributes:
        after: what must have run before; emptied once it ran.
        before: all the operations, as far as the host has not seen them done, that certainly run before this one.
        sources: views of page-locked memory that it reads, and what they held when it was enqueued.
        module: where its kernel comes from, or 0.
        graph: whose launch it belongs to, or 0.
        event: what it records; only in graphs does that take an operation.
    """

    name: str
    run: Callable[[], None]
    after: list[Operation]
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    module: int = 0
    graph: int = 0
    event: _Event | None = None
    before: set[Operation] = field(default_factory=set)
    sources: list[tuple[Image8, bytes]] = field(default_factory=list)
    running: bool = False
    done: bool = False
    done_ms: float = 0.0

    def touches(self, span: Span) -> bool:
        return any(_overlap(span, other) for other in (*self.reads, *self.writes))

    def conflicts(self, other: Operation) -> bool:
        """Whether the order of the two matters."""
        return any(other.touches(span) for span in self.writes) or any(self.touches(span) for span in other.writes)


@dataclass(eq=False)
class _Capture:
    tails: list[Operation]  # of the stream, outside of it
    nodes: list[Operation] = field(default_factory=list)
    broken: str = ""


@dataclass(eq=False)
class _Stream:
    tails: list[Operation] = field(default_factory=list)  # what the next operation must wait for
    capture: _Capture | None = None


@dataclass(eq=False)
class _Event:
    tails: list[Operation] = field(default_factory=list)
    recorded: int = 0  # number of the latest record that took effect; 0: none did
    record_ms: float = 0.0

    def record(self, number: int, tails: list[Operation], now_ms: float) -> None:
        """Take effect, unless a later one has: a graph comes to its records long after it was launched."""
        if number > self.recorded:
            self.recorded, self.tails, self.record_ms = number, tails, now_ms

    @property
    def happened(self) -> bool:
        return all(operation.done for operation in self.tails)


@dataclass(eq=False)
class _Graph:
    nodes: list[Operation]
    last: list[Operation] = field(default_factory=list)  # the end of its latest launch


@dataclass(eq=False)
class _Memory:
    """An allocation between two guards."""

    kind: str  # "device", "mapped" (page-locked with a device address) or "page-locked"
    block: Image8
    data: Image8

    @property
    def span(self) -> Span:
        return _span_of(self.data)


@dataclass(frozen=True)
class _Kernel:
    """What the emulator knows of a kernel.

    Attributes:
        dtype: of its parameters.
        size: fields with the width and height that the grid must cover.
        spans: from parameters to what it reads and what it writes.
    """

    dtype: np.dtype[np.void]
    size: tuple[str, str]
    spans: Callable[[Any], tuple[list[Span], list[Span]]]


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _call(method: _Method) -> _Method:
    """A method of the protocol: recorded, checked, and subject to the faults that the test asked for."""

    @functools.wraps(method)
    def call(self: EmulatedDriver, *arguments: Any, **named: Any) -> Any:
        self._check_thread(method.__name__)
        with self._changed:
            self._enter(Call(method.__name__, (*arguments, *named.values())))
            return method(self, *arguments, **named)

    return call  # type: ignore[return-value]


class EmulatedDriver:
    """See the module. Give every test several seeds.

    Attributes:
        calls: every call that was made, in order.
        misuses: every misuse that was found; each was raised as well.
        poll_steps: the most operations that run during one `happened`; 0 keeps the device still.

    Args:
        seed: of the order of execution.
        devices: how many there are.
        integrated: whether they share the memory of the host.
        memory: bytes that each has.
        capability: compute capability.
        free_running: the device works on its own, in a thread, instead of only when it is asked.
    """

    name = "emulator"

    def __init__(
        self,
        *,
        seed: int = 0,
        devices: int = 1,
        integrated: bool = False,
        memory: int = 1 << 30,
        capability: tuple[int, int] = (8, 7),
        free_running: bool = False,
    ) -> None:
        self.calls: list[Call] = []
        self.misuses: list[MisuseError] = []
        self.poll_steps = 3
        self._info = DeviceInfo("Emulated GPU", capability, integrated, 13000, memory)
        self._devices = devices
        self._free_running = free_running
        self._random = random.Random(seed)
        self._handles = itertools.count(0x1000)
        self._records = itertools.count(1)
        self._refusals: dict[str, list[int]] = {}  # call -> [calls before it is refused, refusals]
        self._loss: int | None = None
        self._thread: int | None = None
        self._changed = threading.Condition(threading.RLock())
        self._graveyard: list[_Memory] = []  # keeps addresses from being used again, so that stale ones are found
        self._reset()

    def _reset(self) -> None:
        self._lost = False
        self._failure: BaseException | None = None
        self._worker: threading.Thread | None = None
        self._clock_ms = 0.0
        self._memory: dict[int, _Memory] = {}
        self._streams: dict[int, _Stream] = {}
        self._events: dict[int, _Event] = {}
        self._modules: set[int] = set()
        self._functions: dict[int, tuple[int, str]] = {}
        self._graphs: dict[int, _Graph] = {}
        self._pending: list[Operation] = []  # enqueued, not run
        self._unseen: dict[Operation, None] = {}  # enqueued, and the host cannot know whether it ran

    # What a test asks for.

    def lose_device(self, *, after: int = 0) -> None:
        """The device is lost at the call after `after` more calls; `close` and `open` bring it back."""
        self._loss = after

    def refuse(self, call: str, *, after: int = 0, times: int = 1) -> None:
        """Let the driver refuse `call`, e.g. "alloc", `times` times, the first time after `after` that go well."""
        self._refusals[call] = [after, times]

    def advance(self, steps: int) -> int:
        """Run up to `steps` operations that may run now, in random order; returns how many ran."""
        with self._changed:
            return sum(self._step() for _ in range(steps))

    def pending(self) -> list[str]:
        """Names of what is enqueued and did not run."""
        with self._changed:
            return [operation.name for operation in self._pending]

    def view(self, address: int, size: int) -> Image8:
        """(size,) live memory at a device address, not a copy."""
        memory = self._find((address, address + size), "is viewed")
        start = address - memory.span[0]
        return memory.data[start : start + size]

    def enqueue(
        self,
        stream: int,
        function: Callable[[], None],
        *,
        name: str = "engine",
        reads: Iterable[Span] = (),
        writes: Iterable[Span] = (),
        capturable: bool = True,
    ) -> None:
        """Put a function of the host on a stream as if it were kernels, e.g. an engine between `view`s.

        Args:
            stream: where.
            function: runs at its turn, in no particular thread; makes no call in here but `view`.
            name: for messages and `pending`.
            reads: device memory that it reads.
            writes: device memory that it writes.
            capturable: whether a capture of the stream survives it.

        Raises:
            DeviceError: it cannot be captured, and the stream is; the capture is broken.
        """
        self._check_thread("enqueue")
        with self._changed:
            self._enter(Call("enqueue", (stream, name)))
            state = self._stream(stream)
            if state.capture is not None and not capturable:
                raise self._break(state.capture, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: the engine cannot be captured")
            self._enqueue(stream, Operation(name, function, [], tuple(reads), tuple(writes)))

    # The protocol, in its order.

    def open(self, device: int) -> DeviceInfo:
        with self._changed:
            self.calls.append(Call("open", (device,)))
            if self._thread is not None:
                raise self._misuse("open: it is open already")
            if not 0 <= device < self._devices:
                raise RuntimeUnavailableError(f"there is no CUDA device {device}, the emulator has {self._devices}")
            self._thread = threading.get_ident()
            if self._free_running:
                self._worker = threading.Thread(target=self._work, name="emulated device", daemon=True)
                self._worker.start()
        return self._info

    def close(self) -> None:
        if self._thread is None:
            self.calls.append(Call("close", ()))
            return
        self._check_thread("close")
        with self._changed:
            self._enter(Call("close", ()))
            if not self._free_running:
                while self._step():
                    pass
            self._wait_until(lambda: not self._pending)
            worker, left = self._worker, self._left()
            self._thread = None
            self._changed.notify_all()
        if worker is not None:
            worker.join(_PATIENCE)
        self._graveyard.clear()
        self._reset()
        if left:
            raise self._misuse(f"close: not freed before: {left}")

    @_call
    def memory_free(self) -> int:
        return self._unallocated()

    @_call
    def alloc(self, size: int) -> int:
        if size <= 0:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE: cuMemAlloc of no bytes")
        if size > self._unallocated():
            raise DeviceError(f"CUDA_ERROR_OUT_OF_MEMORY: {size} bytes asked for")
        return self._allocate("device", size).span[0]

    @_call
    def free(self, address: int) -> None:
        self._free(address, {"device"})

    @_call
    def alloc_host(self, size: int, *, mapped: bool = False) -> HostBuffer:
        if size <= 0:
            raise DeviceError("CUDA_ERROR_INVALID_VALUE: cuMemHostAlloc of no bytes")
        memory = self._allocate("mapped" if mapped else "page-locked", size)
        return HostBuffer(memory.data, memory.span[0] if mapped else 0)

    @_call
    def free_host(self, buffer: HostBuffer) -> None:
        self._free(_span_of(buffer.array)[0], {"mapped", "page-locked"})

    @_call
    def copy_in(self, address: int, buffer: HostBuffer, size: int, stream: int) -> None:
        source, target = self._host_span(buffer, size), (address, address + size)
        self._find(target, "is copied to")

        def copy() -> None:
            self._bytes(target)[:] = self._bytes(source)

        self._enqueue(stream, Operation("copy_in", copy, [], (source,), (target,)))

    @_call
    def copy_out(self, buffer: HostBuffer, address: int, size: int, stream: int) -> None:
        source, target = (address, address + size), self._host_span(buffer, size)
        self._find(source, "is copied from")

        def copy() -> None:
            self._bytes(target)[:] = self._bytes(source)

        self._enqueue(stream, Operation("copy_out", copy, [], (source,), (target,)))

    @_call
    def stream(self) -> int:
        handle = next(self._handles)
        self._streams[handle] = _Stream()
        return handle

    @_call
    def destroy_stream(self, stream: int) -> None:
        if self._stream(stream).capture is not None:
            raise self._misuse("destroy_stream: it is being captured")
        del self._streams[stream]

    @_call
    def event(self, *, blocking: bool) -> int:
        handle = next(self._handles)
        self._events[handle] = _Event()
        return handle

    @_call
    def destroy_event(self, event: int) -> None:
        self._event(event)
        del self._events[event]

    @_call
    def record(self, event: int, stream: int) -> None:
        state, source = self._event(event), self._stream(stream)
        if source.capture is None:
            state.record(next(self._records), list(source.tails), self._clock_ms)
        else:  # a node of the graph
            self._enqueue(stream, Operation("record", lambda: None, [], event=state))

    @_call
    def wait(self, stream: int, event: int) -> None:
        state, source = self._stream(stream), self._event(event)
        self._check_capture(state)
        if state.capture is not None and source.recorded:
            raise self._break(
                state.capture, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION: a captured stream waits for an event from before"
            )
        state.tails = list(dict.fromkeys([*state.tails, *source.tails]))

    @_call
    def happened(self, event: int) -> bool:
        state = self._event(event)
        if not self._free_running:
            for _ in range(self._random.randint(0, self.poll_steps)):
                self._step()
        if state.happened:
            self._see(state.tails)
        return state.happened

    @_call
    def synchronize(self, event: int) -> None:
        state = self._event(event)
        while not self._free_running and not state.happened:
            needed = self._needed(state.tails)
            if self._random.random() < 0.5 or not self._step():
                self._step(needed)
        self._wait_until(lambda: state.happened)
        self._see(state.tails)

    @_call
    def elapsed_ms(self, start: int, end: int) -> float:
        times = []
        for event in (self._event(start), self._event(end)):
            if not event.recorded:
                raise DeviceError("CUDA_ERROR_INVALID_HANDLE: an event was never recorded")
            if not event.happened:
                raise DeviceError("CUDA_ERROR_NOT_READY: an event has not happened")
            times.append(max([event.record_ms, *(operation.done_ms for operation in event.tails)]))
        return times[1] - times[0]

    @_call
    def launch_host(self, function: Callable[[], None], stream: int) -> None:
        self._enqueue(stream, Operation("launch_host", functools.partial(self._run_elsewhere, function), []))

    @_call
    def load_module(self, image: bytes) -> int:
        if not image:
            raise DeviceError("CUDA_ERROR_INVALID_IMAGE: the module is empty")
        handle = next(self._handles)
        self._modules.add(handle)
        return handle

    @_call
    def unload_module(self, module: int) -> None:
        if module not in self._modules:
            raise self._misuse(f"unload_module: {module} is no module, or unloaded before")
        if any(operation.module == module for operation in self._unseen):
            raise self._misuse("unload_module: a kernel of it may still run")
        self._modules.remove(module)

    @_call
    def function(self, module: int, name: str) -> int:
        if module not in self._modules:
            raise self._misuse(f"function: {module} is no module, or unloaded")
        if name not in KERNELS:
            raise DeviceError(f"CUDA_ERROR_NOT_FOUND: no kernel {name}")
        handle = next(self._handles)
        self._functions[handle] = (module, name)
        return handle

    @_call
    def launch(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: Any, stream: int
    ) -> None:
        module, name = self._functions[function]
        if module not in self._modules:
            raise self._misuse(f"launch: the module of {name} is unloaded")
        kernel = KERNELS[name]
        if parameters.dtype != kernel.dtype:
            raise self._misuse(f"launch: {name} takes another struct than {parameters.dtype}")
        if block[0] * block[1] * block[2] > 1024:
            raise DeviceError(f"CUDA_ERROR_INVALID_VALUE: a block of {block} threads")
        width, height = (int(parameters[size]) for size in kernel.size)
        if grid[0] * block[0] < width or grid[1] * block[1] < height:
            raise self._misuse(f"launch: {grid} blocks of {block} do not cover {width}x{height} pixels")
        reads, writes = kernel.spans(parameters)
        run = functools.partial(_run_on_host, name, parameters.copy())
        self._enqueue(stream, Operation(name, run, [], tuple(reads), tuple(writes), module))

    @_call
    def begin_capture(self, stream: int) -> None:
        state = self._stream(stream)
        if state.capture is not None:
            raise self._misuse("begin_capture: the stream is being captured")
        state.capture = _Capture(state.tails)
        state.tails = []

    @_call
    def end_capture(self, stream: int) -> int:
        state = self._stream(stream)
        capture = state.capture
        if capture is None:
            raise self._misuse("end_capture: no capture began on this stream")
        state.capture, state.tails = None, capture.tails
        if capture.broken:
            raise DeviceError(f"the capture failed: {capture.broken}")
        self._refuse("end_capture")
        handle = next(self._handles)
        self._graphs[handle] = _Graph(capture.nodes)
        return handle

    @_call
    def launch_graph(self, graph: int, stream: int) -> None:
        state, target = self._graph(graph), self._stream(stream)
        if target.capture is not None:
            raise self._break(target.capture, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: a graph in a graph")
        for node in state.nodes:
            after = [*target.tails, *state.last]  # a graph does not overlap itself
            operation = replace(node, after=after, graph=graph, before=set(), sources=[])
            if node.event is not None:
                if node.event not in self._events.values():
                    raise self._misuse("launch_graph: an event in it is destroyed")
                operation.run = functools.partial(self._record_in_graph, node.event, next(self._records), operation)
            self._add(operation)
            target.tails = state.last = [operation]

    @_call
    def destroy_graph(self, graph: int) -> None:
        self._graph(graph)
        if any(operation.graph == graph for operation in self._unseen):
            raise self._misuse("destroy_graph: a launch of it may still run")
        del self._graphs[graph]

    # Calls.

    def _check_thread(self, name: str) -> None:
        if self._thread is None:
            raise self._misuse(f"{name}: the driver is not open")
        if threading.get_ident() != self._thread:
            raise self._misuse(f"{name}: called in {threading.current_thread().name}, which did not open the driver")

    def _enter(self, call: Call) -> None:
        self.calls.append(call)
        if self._failure is not None:
            raise self._failure
        if self._loss is not None:
            self._loss -= 1
            if self._loss < 0:
                self._lose()
        if self._lost and call.name not in _FREEING:
            raise DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS: the device is lost; configure the node again")
        capture = next((stream.capture for stream in self._streams.values() if stream.capture is not None), None)
        if capture is not None and call.name in _NOT_IN_CAPTURE:
            raise self._break(capture, f"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: {call.name} during a capture")
        if call.name != "end_capture":  # which ends the capture first
            self._refuse(call.name)

    def _refuse(self, name: str) -> None:
        after_times = self._refusals.get(name)
        if after_times is None:
            return
        after_times[0] -= 1
        if after_times[0] < 0:
            after_times[1] -= 1
            if after_times[1] == 0:
                del self._refusals[name]
            raise DeviceError(f"CUDA_ERROR_UNKNOWN: the test refuses {name}")

    def _lose(self) -> None:
        """All that was under way is gone; host functions are not called either, as CUDA has it."""
        self._loss, self._lost = None, True
        for stream in self._streams.values():
            stream.capture = None
        for operation in self._pending:
            operation.done = True
        self._pending.clear()
        self._unseen.clear()

    def _misuse(self, message: str) -> MisuseError:
        misuse = MisuseError(message)
        self.misuses.append(misuse)
        return misuse

    def _left(self) -> str:
        kinds = Counter(memory.kind + " memory" for memory in self._memory.values())
        for kind, things in (
            ("stream", self._streams),
            ("event", self._events),
            ("module", self._modules),
            ("graph", self._graphs),
        ):
            kinds[kind] += len(things)
        return ", ".join(f"{count} x {kind}" for kind, count in kinds.items() if count)

    def _stream(self, handle: int) -> _Stream:
        if handle not in self._streams:
            raise self._misuse(f"{handle} is no stream, or destroyed")
        return self._streams[handle]

    def _event(self, handle: int) -> _Event:
        if handle not in self._events:
            raise self._misuse(f"{handle} is no event, or destroyed")
        return self._events[handle]

    def _graph(self, handle: int) -> _Graph:
        if handle not in self._graphs:
            raise self._misuse(f"{handle} is no graph, or destroyed")
        return self._graphs[handle]

    # Memory.

    def _unallocated(self) -> int:
        return self._info.memory - sum(memory.data.size for memory in self._memory.values() if memory.kind == "device")

    def _allocate(self, kind: str, size: int) -> _Memory:
        block = np.full(size + 3 * _GUARD_BYTES, _GUARD, np.uint8)
        start = _GUARD_BYTES + -_span_of(block)[0] % 256
        memory = _Memory(kind, block, block[start : start + size])
        memory.data[:] = _FRESH
        self._memory[memory.span[0]] = memory
        return memory

    def _free(self, address: int, kinds: set[str]) -> None:
        memory = self._memory.get(address)
        if memory is None or memory.kind not in kinds:
            raise self._misuse(f"{address:#x} was not allocated so, or freed before")
        if any(operation.touches(memory.span) for operation in self._unseen):
            raise self._misuse(f"{memory.kind} memory is freed while work that was enqueued may still use it")
        start = memory.span[0] - _span_of(memory.block)[0]
        if np.any(memory.block[:start] != _GUARD) or np.any(memory.block[start + memory.data.size :] != _GUARD):
            raise self._misuse(f"something wrote past an end of {memory.kind} memory of {memory.data.size} bytes")
        del self._memory[address]
        memory.data[:] = _FREED
        self._graveyard.append(memory)

    def _find(self, span: Span, what: str, kinds: Iterable[str] = _DEVICE_MEMORY) -> _Memory:
        for memory in list(self._memory.values()):  # a free-running device looks as well
            if memory.kind in kinds and memory.span[0] <= span[0] and span[1] <= memory.span[1]:
                return memory
        raise self._misuse(f"{what}: {span[1] - span[0]} bytes at {span[0]:#x}, which is not all live memory for this")

    def _bytes(self, span: Span) -> Image8:
        memory = self._find(span, "is copied", _ANY_MEMORY)
        start = span[0] - memory.span[0]
        return memory.data[start : start + span[1] - span[0]]

    def _host_span(self, buffer: HostBuffer, size: int) -> Span:
        span = (_span_of(buffer.array)[0], _span_of(buffer.array)[0] + size)
        self._find(span, "is copied from or to the host", {"mapped", "page-locked"})
        return span

    def _host_views(self, spans: Iterable[Span]) -> Iterator[tuple[Span, Image8]]:
        """Those spans that are page-locked memory."""
        for span in spans:
            for memory in self._memory.values():
                if memory.kind != "device" and memory.span[0] <= span[0] and span[1] <= memory.span[1]:
                    yield span, self._bytes(span)

    # Order.

    def _enqueue(self, handle: int, operation: Operation) -> None:
        stream = self._stream(handle)
        self._check_capture(stream)
        operation.after = list(stream.tails)
        if stream.capture is None:
            self._add(operation)
        else:
            stream.capture.nodes.append(operation)
        stream.tails = [operation]

    def _add(self, operation: Operation) -> None:
        """Check an operation against all that may still be under way, and let it wait for its turn."""
        for other in operation.after:
            if other in self._unseen:
                operation.before |= {other} | {each for each in other.before if each in self._unseen}
        for other in self._unseen:
            if other not in operation.before and operation.conflicts(other):
                raise self._misuse(f"race: nothing orders {operation.name} after {other.name}, and they share memory")
        self._check_live(operation)
        for span, view in self._host_views(operation.reads):
            if not any(_overlap(span, written) for other in self._unseen for written in other.writes):
                operation.sources.append((view, view.tobytes()))
        for span, view in self._host_views(operation.writes):
            if not any(other.touches(span) for other in (*self._unseen, *([operation] if operation.sources else []))):
                view[:] = _PENDING
        operation.after = [other for other in operation.after if not other.done]
        self._pending.append(operation)
        self._unseen[operation] = None
        self._changed.notify_all()

    def _see(self, operations: Iterable[Operation]) -> None:
        """The host knows now that these, and what comes before them, are done."""
        for operation in operations:
            for each in (operation, *operation.before):
                if each in self._unseen:
                    self._check_sources(each)
                    del self._unseen[each]
            operation.before.clear()

    def _check_live(self, operation: Operation) -> None:
        copies = operation.name in ("copy_in", "copy_out")
        for span in (*operation.reads, *operation.writes):
            self._find(span, f"{operation.name} uses", _ANY_MEMORY if copies else _DEVICE_MEMORY)

    def _check_sources(self, operation: Operation) -> None:
        for view, held in operation.sources:
            if view.tobytes() != held:
                raise self._misuse(
                    f"a page-locked buffer was written while {operation.name}, enqueued before, may still read it"
                )

    def _needed(self, operations: Iterable[Operation]) -> set[Operation]:
        """These operations and all that must run before them."""
        needed: set[Operation] = set()
        todo = list(operations)
        while todo:
            operation = todo.pop()
            if operation not in needed:
                needed.add(operation)
                todo += operation.after
        return needed

    # Capture.

    def _check_capture(self, stream: _Stream) -> None:
        if stream.capture is not None and stream.capture.broken:
            raise DeviceError(f"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: {stream.capture.broken}")

    def _break(self, capture: _Capture, why: str) -> DeviceError:
        capture.broken = why
        return DeviceError(why)

    # Execution.

    def _record_in_graph(self, event: _Event, number: int, operation: Operation) -> None:
        event.record(number, [operation], self._clock_ms)

    def _ready(self, among: Iterable[Operation] | None = None) -> Operation | None:
        allowed = None if among is None else set(among)
        ready = [
            operation
            for operation in self._pending
            if not operation.running
            and (allowed is None or operation in allowed)
            and all(other.done for other in operation.after)
        ]
        return self._random.choice(ready) if ready else None

    def _step(self, among: Iterable[Operation] | None = None) -> bool:
        """Run one operation here and now; False if none may run."""
        operation = self._ready(among)
        if operation is None:
            return False
        self._check(operation)
        operation.run()
        self._finish(operation)
        return True

    def _check(self, operation: Operation) -> None:
        operation.running = True
        self._check_live(operation)
        self._check_sources(operation)

    def _finish(self, operation: Operation) -> None:
        operation.done, operation.after = True, []
        self._clock_ms += 0.125
        operation.done_ms = self._clock_ms
        if operation in self._pending:  # unless the device was lost meanwhile
            self._pending.remove(operation)
        self._changed.notify_all()

    def _work(self) -> None:
        """The device of its own accord, until `close`."""
        with self._changed:
            while self._thread is not None and self._failure is None:
                operation = self._ready()
                if operation is None:
                    self._changed.wait()
                    continue
                try:
                    self._check(operation)
                    self._changed.release()
                    try:
                        operation.run()
                    finally:
                        self._changed.acquire()
                except BaseException as failure:
                    self._failure = failure  # for the thread that makes the calls
                self._finish(operation)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        if not self._changed.wait_for(lambda: condition() or self._failure is not None, _PATIENCE):
            raise self._misuse(f"nothing moves any more; waiting: {[operation.name for operation in self._pending]}")
        if self._failure is not None:
            raise self._failure

    def _run_elsewhere(self, function: Callable[[], None]) -> None:
        """In another thread than the one that makes the calls, and not for long."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                function()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=run, name="emulated driver", daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        if thread.is_alive():
            raise self._misuse("launch_host: the function does not return")
        if failures:
            raise failures[0]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _span_of(array: Image8) -> Span:
    start = array.__array_interface__["data"][0]
    return start, start + array.nbytes


def _run_on_host(kernel: str, parameters: Any) -> None:
    from host_build import run_on_host  # compiles the kernels, which not every user of the emulator needs

    run_on_host(kernel, parameters)


def _image_span(image: Any) -> Span:
    """What a kernel may read of a camera image: the last row need not be padded."""
    encoding = ENCODINGS[image["encoding"]]
    width, height, step = (int(image[name]) for name in ("width", "height", "step"))
    pixel = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "yuyv": 2, "uyvy": 2}.get(encoding, 1)
    rows = height + (height + 1) // 2 if encoding == "nv12" else height
    return int(image["data"]), int(image["data"]) + step * (rows - 1) + pixel * width


def _span(parameters: Any, name: str, size: int) -> list[Span]:
    """The span behind a pointer, none behind 0."""
    address = int(parameters[name])
    return [(address, address + size)] if address else []


def _preprocess_spans(parameters: Any) -> tuple[list[Span], list[Span]]:
    size = 3 * int(parameters["tensor_width"]) * int(parameters["tensor_height"])
    return [_image_span(parameters["image"])], _span(parameters, "tensor", size * (2 if parameters["half"] else 4))


def _postprocess_spans(parameters: Any) -> tuple[list[Span], list[Span]]:
    pixels = int(parameters["width"]) * int(parameters["height"])
    cells = int(parameters["classes"]) * int(parameters["logits_width"]) * int(parameters["logits_height"])
    reads = _span(parameters, "logits", cells * (2 if parameters["half"] else 4))
    reads += _span(parameters, "live", LIVE.itemsize)
    if parameters["overlay"]:
        reads.append(_image_span(parameters["image"]))
    writes = _span(parameters, "mask", pixels) + _span(parameters, "confidence", pixels)
    return reads, writes + _span(parameters, "color_mask", 3 * pixels) + _span(parameters, "overlay", 3 * pixels)


KERNELS = {
    "eseg_preprocess": _Kernel(PREPROCESS, ("tensor_width", "tensor_height"), _preprocess_spans),
    "eseg_postprocess": _Kernel(POSTPROCESS, ("width", "height"), _postprocess_spans),
}
"""The kernels that the host build has."""
