"""The emulated driver keeps the protocol, and finds what is done wrong with a driver."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from driver_conformance import PATIENCE, Bench, DriverConformance, filled, scaling
from emulated_driver import Call, EmulatedDriver, MisuseError

from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.driver import HostBuffer
from eseg_ros.runtime.cuda.parameters import BLOCK

SEEDS = range(5)


class TestConformance(DriverConformance):
    """In orders by chance, and with a device that runs on its own."""

    @pytest.fixture(params=[*SEEDS, "free-running"])
    def driver(self, request: pytest.FixtureRequest) -> Iterator[EmulatedDriver]:
        free_running = request.param == "free-running"
        driver = EmulatedDriver(seed=0 if free_running else request.param, free_running=free_running)
        yield driver
        assert driver.misuses == []


@pytest.fixture(params=SEEDS)
def driver(request: pytest.FixtureRequest) -> EmulatedDriver:
    """One that a test may misuse."""
    return EmulatedDriver(seed=request.param)


@pytest.fixture
def bench(driver: EmulatedDriver) -> Bench:
    """Left open, since a misuse leaves things behind."""
    return Bench(driver)


def test_what_is_enqueued_waits_until_something_forces_it(bench: Bench, driver: EmulatedDriver) -> None:
    memory, source, stream, done = bench.memory(64), filled(bench.host(64), 1), bench.stream(), bench.event()
    driver.copy_in(memory, source, 64, stream)
    driver.record(done, stream)
    assert driver.pending() == ["copy_in"]
    driver.poll_steps = 0
    assert not driver.happened(done)
    assert driver.advance(5) == 1
    assert driver.happened(done)
    assert (driver.view(memory, 64) == 1).all()


def test_polling_ends(bench: Bench, driver: EmulatedDriver) -> None:
    stream, done = bench.stream(), bench.event()
    for _ in range(20):
        driver.enqueue(stream, lambda: None)
    driver.record(done, stream)
    assert any(driver.happened(done) for _ in range(1000))


def test_orders_differ_between_seeds() -> None:
    def order(seed: int) -> str:
        driver, names = EmulatedDriver(seed=seed), ""
        bench = Bench(driver)
        for name in "abcd":
            driver.enqueue(bench.stream(), lambda: None, name=name)
        while before := set(driver.pending()):
            driver.advance(1)
            names += (before - set(driver.pending())).pop()
        bench.close()
        return names

    orders = {order(seed) for seed in range(20)}
    assert len(orders) > 10
    assert order(3) == order(3)


def test_a_missing_wait_is_a_race_whatever_the_order(bench: Bench, driver: EmulatedDriver) -> None:
    memory = bench.memory(64)
    driver.copy_in(memory, bench.host(64), 64, bench.stream())
    driver.advance(1)  # it has run, but the host does not know
    with pytest.raises(MisuseError, match="race: nothing orders copy_out after copy_in"):
        driver.copy_out(bench.host(64), memory, 64, bench.stream())


def test_waiting_for_an_event_before_it_is_recorded_orders_nothing(bench: Bench, driver: EmulatedDriver) -> None:
    memory, first, second, arrived = bench.memory(64), bench.stream(), bench.stream(), bench.event()
    driver.wait(second, arrived)
    driver.copy_in(memory, bench.host(64), 64, first)
    driver.record(arrived, first)
    with pytest.raises(MisuseError, match="race"):
        driver.copy_out(bench.host(64), memory, 64, second)


def test_what_the_host_waited_for_orders_everything_after_it(bench: Bench, driver: EmulatedDriver) -> None:
    memory, first, second = bench.memory(64), bench.stream(), bench.stream()
    driver.copy_in(memory, bench.host(64), 64, first)
    bench.wait_for(first)
    driver.copy_out(bench.host(64), memory, 64, second)
    bench.wait_for(second)
    assert driver.misuses == []


def test_different_bytes_of_one_allocation_are_no_race(bench: Bench, driver: EmulatedDriver) -> None:
    memory = bench.memory(64)
    driver.copy_in(memory, bench.host(32), 32, bench.stream())
    driver.copy_in(memory + 32, bench.host(32), 32, bench.stream())
    assert driver.misuses == []


def test_graphs_race_as_everything_else(bench: Bench, driver: EmulatedDriver) -> None:
    memory, stream, source = bench.memory(64), bench.stream(), bench.host(64)
    driver.begin_capture(stream)
    driver.copy_in(memory, source, 64, stream)
    graph = bench.end_capture(stream)
    driver.launch_graph(graph, stream)
    with pytest.raises(MisuseError, match="race"):
        driver.copy_out(bench.host(64), memory, 64, bench.stream())


def test_a_kernel_races_with_what_its_struct_points_to(bench: Bench, driver: EmulatedDriver) -> None:
    image, tensor = bench.memory(24), bench.memory(4 * 3 * 24)
    driver.copy_in(image, bench.host(24), 24, bench.stream())
    with pytest.raises(MisuseError, match="race: nothing orders eseg_preprocess after copy_in"):
        driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, scaling(image, tensor, 6, 4, 1), bench.stream())


def test_a_buffer_written_while_a_copy_may_still_read_it_is_found(bench: Bench, driver: EmulatedDriver) -> None:
    source, stream = filled(bench.host(64), 1), bench.stream()
    driver.copy_in(bench.memory(64), source, 64, stream)
    filled(source, 2)
    with pytest.raises(MisuseError, match="written while copy_in, enqueued before, may still read it"):
        bench.wait_for(stream)


def test_a_buffer_written_before_the_host_knows_of_the_end_is_found(bench: Bench, driver: EmulatedDriver) -> None:
    source, stream = filled(bench.host(64), 1), bench.stream()
    driver.copy_in(bench.memory(64), source, 64, stream)
    driver.advance(1)
    filled(source, 2)
    with pytest.raises(MisuseError, match="may still read it"):
        bench.wait_for(stream)


def test_what_will_be_written_to_the_host_is_garbage_until_then(bench: Bench, driver: EmulatedDriver) -> None:
    memory, stream, target = bench.memory(64), bench.stream(), filled(bench.host(64), 1)
    driver.copy_in(memory, filled(bench.host(64), 1), 64, stream)
    driver.copy_out(target, memory, 64, stream)
    assert (target.array != 1).all()
    bench.wait_for(stream)
    assert (target.array == 1).all()


def test_memory_that_queued_work_uses_is_not_freed(bench: Bench, driver: EmulatedDriver) -> None:
    memory = driver.alloc(64)
    driver.copy_in(memory, bench.host(64), 64, bench.stream())
    driver.advance(1)
    with pytest.raises(MisuseError, match="freed while work"):
        driver.free(memory)


def test_freed_memory_is_not_used(bench: Bench, driver: EmulatedDriver) -> None:
    memory = driver.alloc(64)
    driver.free(memory)
    with pytest.raises(MisuseError, match="not all live memory"):
        driver.copy_in(memory, bench.host(64), 64, bench.stream())
    with pytest.raises(MisuseError, match="freed before"):
        driver.free(memory)


def test_a_graph_does_not_outlive_its_memory(bench: Bench, driver: EmulatedDriver) -> None:
    memory, stream, source = driver.alloc(64), bench.stream(), bench.host(64)
    driver.begin_capture(stream)
    driver.copy_in(memory, source, 64, stream)
    graph = bench.end_capture(stream)
    driver.free(memory)
    driver.alloc(64)  # does not get the same address
    with pytest.raises(MisuseError, match="not all live memory"):
        driver.launch_graph(graph, stream)


def test_a_graph_does_not_outlive_its_events(bench: Bench, driver: EmulatedDriver) -> None:
    stream, event = bench.stream(), driver.event(blocking=True)
    driver.begin_capture(stream)
    driver.record(event, stream)
    graph = bench.end_capture(stream)
    driver.destroy_event(event)
    with pytest.raises(MisuseError, match="an event in it is destroyed"):
        driver.launch_graph(graph, stream)


def test_bytes_past_the_end_are_not_used(bench: Bench, driver: EmulatedDriver) -> None:
    with pytest.raises(MisuseError, match="65 bytes"):
        driver.copy_in(bench.memory(64), bench.host(65), 65, bench.stream())
    with pytest.raises(MisuseError, match="65 bytes"):
        driver.copy_in(bench.memory(65), bench.host(64), 65, bench.stream())


def test_a_write_past_the_end_is_found_when_the_memory_is_freed(bench: Bench, driver: EmulatedDriver) -> None:
    memory, stream = driver.alloc(64), bench.stream()
    driver.enqueue(stream, lambda: ctypes.memset(memory, 1, 65))
    bench.wait_for(stream)
    with pytest.raises(MisuseError, match="wrote past an end"):
        driver.free(memory)


def test_kernels_do_not_touch_page_locked_memory_that_is_not_mapped(bench: Bench, driver: EmulatedDriver) -> None:
    image = bench.host(24).array.ctypes.data
    with pytest.raises(MisuseError, match="not all live memory"):
        driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, scaling(image, bench.memory(288), 6, 4, 1), bench.stream())


def test_copies_use_page_locked_memory_alone(bench: Bench, driver: EmulatedDriver) -> None:
    with pytest.raises(MisuseError, match="not all live memory"):
        driver.copy_in(bench.memory(64), HostBuffer(np.zeros(64, np.uint8)), 64, bench.stream())


def test_a_grid_covers_all_pixels(bench: Bench, driver: EmulatedDriver) -> None:
    parameters = scaling(bench.memory(40 * 4), bench.memory(3 * 4 * 40 * 4), 40, 4, 1)
    with pytest.raises(MisuseError, match="do not cover 40x4"):
        driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, parameters, bench.stream())


def test_only_the_thread_that_opened_the_driver_calls_it(bench: Bench, driver: EmulatedDriver) -> None:
    found: list[MisuseError] = []

    def call() -> None:
        with pytest.raises(MisuseError) as caught:
            driver.stream()
        found.append(caught.value)

    thread = threading.Thread(target=call, name="the wrong one")
    thread.start()
    thread.join(PATIENCE)
    assert "called in the wrong one" in str(found[0])


def test_a_host_function_makes_no_call(bench: Bench, driver: EmulatedDriver) -> None:
    stream, event = bench.stream(), bench.event()
    driver.launch_host(lambda: driver.record(event, stream), stream)
    with pytest.raises(MisuseError, match="record: called in emulated driver"):
        bench.wait_for(stream)


def test_close_finds_what_was_not_freed(driver: EmulatedDriver) -> None:
    driver.open(0)
    driver.alloc(64), driver.stream(), driver.stream(), driver.event(blocking=True)
    with pytest.raises(MisuseError, match="1 x device memory, 2 x stream, 1 x event"):
        driver.close()


def test_a_kernel_is_not_unloaded_while_it_may_run(bench: Bench, driver: EmulatedDriver) -> None:
    module = driver.load_module(b"image")
    function = driver.function(module, "eseg_preprocess")
    parameters = scaling(bench.memory(24), bench.memory(288), 6, 4, 1)
    driver.launch(function, (1, 1, 1), BLOCK, parameters, bench.stream())
    with pytest.raises(MisuseError, match="may still run"):
        driver.unload_module(module)


def test_a_graph_is_not_destroyed_while_it_may_run(bench: Bench, driver: EmulatedDriver) -> None:
    stream = bench.stream()
    driver.begin_capture(stream)
    driver.enqueue(stream, lambda: None)
    graph = driver.end_capture(stream)
    driver.launch_graph(graph, stream)
    with pytest.raises(MisuseError, match="may still run"):
        driver.destroy_graph(graph)
    bench.wait_for(stream)
    driver.destroy_graph(graph)


def test_an_event_in_a_graph_has_not_happened_anew_before_the_graph_comes_to_it(
    bench: Bench, driver: EmulatedDriver
) -> None:
    stream, other, inside, memory = bench.stream(), bench.stream(), bench.event(), bench.memory(64)
    source = bench.host(64)
    driver.begin_capture(stream)
    driver.copy_in(memory, source, 64, stream)
    driver.record(inside, stream)
    graph = bench.end_capture(stream)
    driver.launch_graph(graph, stream)
    driver.wait(other, inside)
    with pytest.raises(MisuseError, match="race"):
        driver.copy_out(bench.host(64), memory, 64, other)


def test_an_engine_stands_between_the_kernels(bench: Bench, driver: EmulatedDriver) -> None:
    memory, result, stream, target = bench.memory(64), bench.memory(64), bench.stream(), bench.host(64)

    def double() -> None:
        np.multiply(driver.view(memory, 64), 2, out=driver.view(result, 64))

    driver.copy_in(memory, filled(bench.host(64), 21), 64, stream)
    driver.enqueue(stream, double, reads=[(memory, memory + 64)], writes=[(result, result + 64)])
    driver.copy_out(target, result, 64, stream)
    bench.wait_for(stream)
    assert (target.array == 42).all()


def test_an_engine_that_cannot_be_captured_spoils_the_capture(bench: Bench, driver: EmulatedDriver) -> None:
    stream = bench.stream()
    driver.begin_capture(stream)
    with pytest.raises(DeviceError, match="the engine cannot be captured"):
        driver.enqueue(stream, lambda: None, capturable=False)
    with pytest.raises(DeviceError, match="the engine cannot be captured"):
        driver.end_capture(stream)
    driver.enqueue(stream, lambda: None, capturable=False)
    bench.wait_for(stream)


def test_refuses_what_the_test_wants_refused(bench: Bench, driver: EmulatedDriver) -> None:
    driver.refuse("alloc", after=1, times=2)
    bench.memory(64)
    for _ in range(2):
        with pytest.raises(DeviceError, match="refuses alloc"):
            driver.alloc(64)
    bench.memory(64)


def test_a_refused_capture_leaves_the_stream_usable(bench: Bench, driver: EmulatedDriver) -> None:
    stream = bench.stream()
    driver.refuse("end_capture")
    driver.begin_capture(stream)
    with pytest.raises(DeviceError, match="refuses end_capture"):
        driver.end_capture(stream)
    driver.enqueue(stream, lambda: None)
    bench.wait_for(stream)


def test_a_lost_device_fails_every_call_until_it_is_opened_again(bench: Bench, driver: EmulatedDriver) -> None:
    stream, event, called = bench.stream(), bench.event(), []
    bench.memory(64), bench.host(64)
    driver.launch_host(lambda: called.append(1), stream)
    driver.lose_device(after=1)
    driver.record(event, stream)
    for _ in range(2):
        with pytest.raises(DeviceError, match="the device is lost"):
            driver.synchronize(event)
    bench.close()
    assert called == []
    assert driver.misuses == []

    bench = Bench(driver)
    bench.wait_for(bench.stream())
    bench.close()


def test_tells_every_call_in_order(bench: Bench, driver: EmulatedDriver) -> None:
    stream, event = bench.stream(), bench.event()
    driver.record(event, stream)
    driver.synchronize(event)
    assert driver.calls == [
        Call("open", (0,)),
        Call("stream", ()),
        Call("event", (True,)),
        Call("record", (event, stream)),
        Call("synchronize", (event,)),
    ]


def test_a_free_running_device_needs_nobody_to_force_it() -> None:
    driver = EmulatedDriver(free_running=True)
    bench, ran = Bench(driver), threading.Event()
    driver.enqueue(bench.stream(), ran.set)
    assert ran.wait(PATIENCE)
    bench.close()


def test_a_free_running_device_reports_to_the_thread_that_makes_the_calls() -> None:
    driver = EmulatedDriver(free_running=True)
    bench = Bench(driver)
    stream = bench.stream()
    driver.launch_host(bench.stream, stream)
    with pytest.raises(MisuseError, match="stream: called in emulated driver"):
        bench.wait_for(stream)
