"""What every CUDA driver must do: the tests of the protocol, for the emulator, for the real ones, with a GPU or not.

A test module takes them over with a class of its own: `class TestMyDriver(DriverConformance)` with a fixture `driver`,
a driver that is not open and that the test leaves closed, with nothing left on it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver, HostBuffer
from eseg_ros.runtime.cuda.kernel_module import load_kernels
from eseg_ros.runtime.cuda.parameters import BLOCK, ENCODINGS, PREPROCESS

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as lost."""


class Bench:
    """An open driver, and what a test uses on it; `close` frees all of it."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._resources = ExitStack()
        self.info: DeviceInfo = driver.open(0)
        self._resources.callback(driver.close)

    def close(self) -> None:
        self._resources.close()

    def memory(self, size: int) -> int:
        address = self.driver.alloc(size)
        self._resources.callback(self.driver.free, address)
        return address

    def host(self, size: int, *, mapped: bool = False) -> HostBuffer:
        buffer = self.driver.alloc_host(size, mapped=mapped)
        self._resources.callback(self.driver.free_host, buffer)
        return buffer

    def stream(self) -> int:
        stream = self.driver.stream()
        self._resources.callback(self.driver.destroy_stream, stream)
        return stream

    def event(self, *, blocking: bool = True) -> int:
        event = self.driver.event(blocking=blocking)
        self._resources.callback(self.driver.destroy_event, event)
        return event

    def end_capture(self, stream: int) -> int:
        graph = self.driver.end_capture(stream)
        self._resources.callback(self.driver.destroy_graph, graph)
        return graph

    def preprocess(self) -> int:
        kernels = load_kernels(self.driver, self.info)
        self._resources.callback(self.driver.unload_module, kernels.module)
        return kernels.preprocess

    def there_and_back(self, value: int, stream: int) -> set[int]:
        """The values that come back when 64 bytes of `value` are copied to the device and out again."""
        memory, target = self.memory(64), self.host(64)
        self.driver.copy_in(memory, filled(self.host(64), value), 64, stream)
        self.driver.copy_out(target, memory, 64, stream)
        self.wait_for(stream)
        return set(target.array.tolist())

    def wait_for(self, stream: int) -> None:
        """Until all that is enqueued on the stream is done."""
        event = self.event()
        self.driver.record(event, stream)
        self.driver.synchronize(event)


def filled(buffer: HostBuffer, value: int) -> HostBuffer:
    """The buffer, all its bytes `value`."""
    buffer.array[:] = value
    return buffer


def scaling(image: int, tensor: int, width: int, height: int, scale: float) -> np.void:
    """Parameters of `eseg_preprocess`: a mono image to a float tensor of the same size, times `scale`."""
    parameters = np.zeros((), PREPROCESS)
    parameters["image"]["data"] = image
    parameters["image"]["encoding"] = ENCODINGS.index("mono8")
    parameters["tensor"] = tensor
    parameters["scale"] = scale
    for name in ("tensor_width", "placed_width"):
        parameters[name] = width
    for name in ("tensor_height", "placed_height"):
        parameters[name] = height
    for name, value in (("width", width), ("height", height), ("step", width)):
        parameters["image"][name] = value
    return parameters[()]


class DriverConformance:
    """See the module."""

    @pytest.fixture
    def driver(self) -> Driver:
        """Not open."""
        raise NotImplementedError

    @pytest.fixture
    def bench(self, driver: Driver) -> Iterator[Bench]:
        """Everything that a test takes from it is freed at the test's end, in the opposite order."""
        bench = Bench(driver)
        yield bench
        bench.close()

    def test_tells_what_device_it_opened(self, bench: Bench) -> None:
        assert bench.info.name
        assert bench.info.capability >= (5, 0)
        assert bench.info.driver_version >= 11040
        assert 0 < bench.driver.memory_free() <= bench.info.memory

    def test_says_which_device_there_is_not(self, driver: Driver) -> None:
        with pytest.raises(RuntimeUnavailableError, match="99"):
            driver.open(99)
        driver.close()

    def test_can_be_closed_twice_and_opened_again(self, driver: Driver) -> None:
        for _ in range(2):
            driver.open(0)
            driver.close()
            driver.close()

    def test_gives_aligned_memory(self, bench: Bench) -> None:
        assert [bench.memory(size) % 256 for size in (1, 100, 4097)] == [0, 0, 0]

    def test_refuses_more_memory_than_there_is(self, bench: Bench) -> None:
        with pytest.raises(DeviceError, match="CUDA_ERROR_OUT_OF_MEMORY"):
            bench.driver.alloc(2 * bench.info.memory)

    def test_copies_the_first_bytes_in_and_out(self, bench: Bench) -> None:
        memory, stream = bench.memory(8), bench.stream()
        source, target = bench.host(8), bench.host(8)
        source.array[:] = range(8)
        bench.driver.copy_in(memory, source, 8, stream)
        bench.driver.copy_out(target, memory, 5, stream)
        bench.wait_for(stream)
        assert target.array[:5].tolist() == [0, 1, 2, 3, 4]

    def test_copies_to_the_middle_of_an_allocation(self, bench: Bench) -> None:
        memory, stream, target = bench.memory(512), bench.stream(), bench.host(512)
        bench.driver.copy_in(memory, filled(bench.host(512), 1), 512, stream)
        bench.driver.copy_in(memory + 256, filled(bench.host(256), 2), 256, stream)
        bench.driver.copy_out(target, memory, 512, stream)
        bench.wait_for(stream)
        assert target.array[[0, 255, 256, 511]].tolist() == [1, 1, 2, 2]

    def test_orders_streams_by_events(self, bench: Bench) -> None:
        driver, memory, target = bench.driver, bench.memory(4096), bench.host(4096)
        first, second, arrived = bench.stream(), bench.stream(), bench.event()
        for value in (1, 2, 3):
            driver.copy_in(memory, filled(bench.host(4096), value), 4096, first)
        driver.record(arrived, first)
        driver.wait(second, arrived)
        driver.copy_out(target, memory, 4096, second)
        bench.wait_for(second)
        assert (target.array == 3).all()

    @pytest.mark.parametrize("blocking", [True, False])
    def test_an_event_happens_when_what_was_before_it_is_done(self, bench: Bench, blocking: bool) -> None:
        driver, stream, event = bench.driver, bench.stream(), bench.event(blocking=blocking)
        target = bench.host(64)
        driver.copy_in(memory := bench.memory(64), filled(bench.host(64), 9), 64, stream)
        driver.copy_out(target, memory, 64, stream)
        driver.record(event, stream)
        driver.synchronize(event)
        assert driver.happened(event)
        assert (target.array == 9).all()

    def test_an_event_that_was_never_recorded_has_happened(self, bench: Bench) -> None:
        event = bench.event()
        assert bench.driver.happened(event)
        bench.driver.synchronize(event)

    def test_measures_the_time_between_events(self, bench: Bench) -> None:
        stream, start, end = bench.stream(), bench.event(), bench.event()
        bench.driver.record(start, stream)
        bench.driver.copy_in(bench.memory(1 << 20), filled(bench.host(1 << 20), 1), 1 << 20, stream)
        bench.driver.record(end, stream)
        bench.driver.synchronize(end)
        assert 0 < bench.driver.elapsed_ms(start, end) < 1000 * PATIENCE

    def test_refuses_the_time_of_an_event_that_was_never_recorded(self, bench: Bench) -> None:
        with pytest.raises(DeviceError):
            bench.driver.elapsed_ms(bench.event(), bench.event())

    def test_calls_a_host_function_in_another_thread_after_what_was_before_it(self, bench: Bench) -> None:
        target, stream, called = bench.host(64), bench.stream(), threading.Event()
        seen: list[tuple[int, int]] = []

        def look() -> None:
            seen.append((int(target.array[0]), threading.get_ident()))
            called.set()

        bench.driver.copy_in(memory := bench.memory(64), filled(bench.host(64), 7), 64, stream)
        bench.driver.copy_out(target, memory, 64, stream)
        bench.driver.launch_host(look, stream)
        bench.wait_for(stream)
        assert called.wait(PATIENCE)
        assert seen[0][0] == 7
        assert seen[0][1] != threading.get_ident()

    def test_allocates_and_frees_while_a_host_function_waits_for_this_thread(self, bench: Bench) -> None:
        """The function needs the interpreter, the driver may wait for the function: neither may wait for the other."""
        driver, stream = bench.driver, bench.stream()
        for _ in range(3):
            driver.launch_host(lambda: threading.Event().wait(0.01), stream)
            memory, buffer = driver.alloc(64), driver.alloc_host(64)
            driver.launch_host(lambda: threading.Event().wait(0.01), stream)
            driver.free(memory)
            driver.free_host(buffer)
        bench.wait_for(stream)

    def test_runs_a_kernel_on_a_struct_that_may_change_afterwards(self, bench: Bench) -> None:
        driver, stream, target = bench.driver, bench.stream(), bench.host(4 * 3 * 6 * 4)
        image, tensor = bench.memory(24), bench.memory(4 * 3 * 24)
        parameters = np.array(scaling(image, tensor, 6, 4, scale=0.5))
        driver.copy_in(image, filled(bench.host(24), 100), 24, stream)
        driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, parameters[()], stream)
        parameters["scale"] = -1
        driver.copy_out(target, tensor, 4 * 3 * 24, stream)
        bench.wait_for(stream)
        assert target.array.view(np.float32).tolist() == [50.0] * 72

    def test_kernels_read_and_write_mapped_memory(self, bench: Bench) -> None:
        stream, image = bench.stream(), filled(bench.host(24, mapped=True), 8)
        tensor = bench.host(4 * 3 * 24, mapped=True)
        parameters = scaling(image.address, tensor.address, 6, 4, scale=2)
        bench.driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, parameters, stream)
        bench.wait_for(stream)
        assert tensor.array.view(np.float32).tolist() == [16.0] * 72

    def test_page_locked_memory_that_is_not_mapped_has_no_address(self, bench: Bench) -> None:
        assert bench.host(64).address == 0

    def test_refuses_a_module_that_is_none(self, bench: Bench) -> None:
        with pytest.raises(DeviceError, match="CUDA_ERROR"):
            bench.driver.load_module(b"")

    def test_refuses_a_kernel_that_is_not_in_the_module(self, bench: Bench) -> None:
        kernels = load_kernels(bench.driver, bench.info)
        with pytest.raises(DeviceError, match="CUDA_ERROR_NOT_FOUND"):
            bench.driver.function(kernels.module, "eseg_nothing")
        bench.driver.unload_module(kernels.module)

    def test_a_capture_runs_nothing_and_its_graph_runs_all_with_the_memory_of_the_moment(self, bench: Bench) -> None:
        driver, stream, memory = bench.driver, bench.stream(), bench.memory(64)
        source, target = filled(bench.host(64), 1), filled(bench.host(64), 0)
        driver.begin_capture(stream)
        driver.copy_in(memory, source, 64, stream)
        driver.copy_out(target, memory, 64, stream)
        graph = bench.end_capture(stream)
        assert (target.array == 0).all()
        for value in (2, 3):
            filled(source, value)
            driver.launch_graph(graph, stream)
            bench.wait_for(stream)
            assert (target.array == value).all()

    def test_an_event_in_a_graph_tells_the_time_at_every_launch(self, bench: Bench) -> None:
        driver, stream, memory = bench.driver, bench.stream(), bench.memory(1 << 20)
        source, start, inside = filled(bench.host(1 << 20), 1), bench.event(), bench.event()
        driver.begin_capture(stream)
        driver.copy_in(memory, source, 1 << 20, stream)
        driver.record(inside, stream)
        graph = bench.end_capture(stream)
        for _ in range(2):
            driver.record(start, stream)
            driver.launch_graph(graph, stream)
            bench.wait_for(stream)
            assert 0 < driver.elapsed_ms(start, inside) < 1000 * PATIENCE

    def test_a_graph_calls_its_host_function_at_every_launch(self, bench: Bench) -> None:
        stream, calls = bench.stream(), threading.Semaphore(0)
        bench.driver.begin_capture(stream)
        bench.driver.launch_host(calls.release, stream)
        graph = bench.end_capture(stream)
        for _ in range(2):
            bench.driver.launch_graph(graph, stream)
            bench.wait_for(stream)
            assert calls.acquire(timeout=PATIENCE)

    def test_a_spoiled_capture_is_refused_and_the_stream_works_again(self, bench: Bench) -> None:
        driver, stream = bench.driver, bench.stream()
        driver.begin_capture(stream)
        with pytest.raises(DeviceError, match="CUDA_ERROR_STREAM_CAPTURE"):
            driver.alloc(64)
        with pytest.raises(DeviceError, match="CUDA_ERROR_STREAM_CAPTURE"):
            driver.end_capture(stream)
        assert bench.there_and_back(5, stream) == {5}

    def test_a_captured_stream_does_not_wait_for_events_from_before(self, bench: Bench) -> None:
        stream, other, event = bench.stream(), bench.stream(), bench.event()
        bench.driver.record(event, other)
        bench.driver.begin_capture(stream)
        with pytest.raises(DeviceError, match="CUDA_ERROR_STREAM_CAPTURE"):
            bench.driver.wait(stream, event)
        with pytest.raises(DeviceError, match="CUDA_ERROR_STREAM_CAPTURE"):
            bench.driver.end_capture(stream)

    def test_works_in_a_thread_of_its_own(self, driver: Driver) -> None:
        results: list[set[int]] = []

        def work() -> None:
            bench = Bench(driver)
            results.append(bench.there_and_back(3, bench.stream()))
            bench.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        assert results == [{3}]
