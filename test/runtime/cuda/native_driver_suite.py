"""pycuda and cuda.bindings on the fake libcuda; test_native_drivers.py runs this where that is the only one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from driver_conformance import Bench, DriverConformance, filled

from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.drivers import open_driver


@pytest.fixture(scope="session")
def fake() -> ctypes.CDLL:
    """The fake, to ask it what is left and to break it."""
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_left.restype = ctypes.c_char_p
    return library


@pytest.fixture(params=["pycuda", "bindings"])
def driver(request: pytest.FixtureRequest, fake: ctypes.CDLL) -> Iterator[Driver]:
    """Not open; afterwards the process must be as if there had been no driver: no context, nothing allocated."""
    yield open_driver(request.param)
    assert fake.fake_left() == b""


class TestNativeDriver(DriverConformance):
    """The protocol, and what only the real API has: handles freed twice, errors by number, a lost device."""

    @pytest.fixture
    def driver(self, driver: Driver) -> Driver:
        return driver

    def test_says_what_it_is(self, driver: Driver) -> None:
        assert driver.name.split()[0] in ("pycuda", "cuda.bindings")
        assert driver.name.split()[1][0].isdigit()

    def test_refuses_to_free_twice(self, bench: Bench) -> None:
        memory = bench.driver.alloc(64)
        bench.driver.free(memory)
        with pytest.raises(DeviceError, match="freed before"):
            bench.driver.free(memory)

    def test_refuses_to_copy_more_than_a_page_locked_buffer_holds(self, bench: Bench) -> None:
        memory, buffer, stream = bench.memory(128), bench.host(64), bench.stream()
        with pytest.raises(ValueError, match="128 bytes are copied to or from a page-locked buffer of 64"):
            bench.driver.copy_in(memory, buffer, 128, stream)
        with pytest.raises(ValueError, match="128 bytes"):
            bench.driver.copy_out(buffer, memory, 128, stream)

    def test_says_what_to_do_when_the_memory_is_full(self, bench: Bench) -> None:
        with pytest.raises(DeviceError, match=r"out of memory.*fewer slots.*nvidia-smi"):
            bench.driver.alloc(2 * bench.info.memory)

    def test_says_which_call_failed(self, bench: Bench) -> None:
        with pytest.raises(DeviceError, match="cuMemAlloc: CUDA_ERROR_INVALID_VALUE"):
            bench.driver.alloc(0)

    def test_warns_at_close_of_what_was_not_freed(self, driver: Driver, fake: ctypes.CDLL) -> None:
        driver.open(0)
        event = driver.event(blocking=True)
        with pytest.warns(ResourceWarning, match="1 x event"):
            driver.close()
        assert fake.fake_left() == b"1 x event; "
        driver.open(0)
        driver.libcuda.call("cuEventDestroy_v2", event)
        driver.close()

    def test_every_call_fails_once_the_device_is_lost(self, bench: Bench, fake: ctypes.CDLL) -> None:
        driver, stream, event = bench.driver, bench.stream(), bench.event()
        memory, buffer = bench.memory(64), bench.host(64)
        fake.fake_lose_device()
        for call in (
            lambda: driver.synchronize(event),
            lambda: driver.copy_in(memory, buffer, 64, stream),
            lambda: driver.alloc(64),
            driver.memory_free,
            driver.stream,
            lambda: driver.begin_capture(stream),
        ):
            with pytest.raises(DeviceError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS.*The device is lost"):
                call()

    def test_frees_quietly_what_is_gone_with_the_device_and_opens_it_anew(
        self, driver: Driver, fake: ctypes.CDLL
    ) -> None:
        bench = Bench(driver)
        stream = bench.stream()
        bench.memory(64), bench.host(64), bench.event(), bench.preprocess()
        driver.begin_capture(stream)
        bench.end_capture(stream)
        fake.fake_lose_device()
        bench.close()
        assert fake.fake_left() == b""

        bench = Bench(driver)
        stream, target, memory = bench.stream(), bench.host(64), bench.memory(64)
        driver.copy_in(memory, filled(bench.host(64), 4), 64, stream)
        driver.copy_out(target, memory, 64, stream)
        bench.wait_for(stream)
        assert (target.array == 4).all()
        bench.close()

    def test_a_host_function_does_not_outlive_its_call(self, bench: Bench) -> None:
        stream = bench.stream()
        for _ in range(3):
            bench.driver.launch_host(lambda: None, stream)
        bench.wait_for(stream)
        assert bench.driver._host_functions == {}
