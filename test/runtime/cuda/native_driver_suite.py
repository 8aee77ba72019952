"""pycuda and cuda.bindings on the fake libcuda; test_native_drivers.py runs this where that is the only one."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime
import pytest
from driver_conformance import Bench, DriverConformance
from emulated_driver import EmulatedDriver
from host_network import HostNetwork
from numpy.testing import assert_array_equal

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result


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
        assert bench.there_and_back(4, bench.stream()) == {4}
        bench.close()

    def test_close_waits_for_host_functions(self, driver: Driver) -> None:
        driver.open(0)
        stream, called = driver.stream(), threading.Event()
        driver.launch_host(called.set, stream)
        driver.destroy_stream(stream)
        driver.close()
        assert called.is_set()

    def test_a_host_function_does_not_outlive_its_call(self, bench: Bench) -> None:
        stream = bench.stream()
        for _ in range(3):
            bench.driver.launch_host(lambda: None, stream)
        bench.wait_for(stream)
        assert bench.driver._host_functions == {}


class HostFunctions:
    """What a HostNetwork asks of the emulated driver, on the fake device, whose memory is the host's as well."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def enqueue(self, stream: int, function: Callable[[], None], **_: object) -> None:
        self._driver.launch_host(function, stream)

    def view(self, address: int, size: int) -> Image8:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class HostFunctionNetwork(HostNetwork):
    """ONNX Runtime as a function that the driver calls at its turn."""

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        self._driver = HostFunctions(driver)
        self._session = onnxruntime.InferenceSession(self._onnx)


def pictures(runtime: CudaRuntime, frames: list[Frame]) -> list[Result]:
    """Of all frames, two of them under way at once."""
    runtime.load(lambda: None)
    results = []
    for number, frame in enumerate(frames):
        if number > 1:
            results.append(runtime.collect(number % 2))
        runtime.submit(number % 2, frame, Outputs(overlay=True, confidence=True))
    results += [runtime.collect((len(frames) + slot) % 2) for slot in range(2)]
    assert runtime.device.endswith("CUDA graphs")
    runtime.close()
    return results


@pytest.mark.parametrize("mapped", ["on", "off"])
def test_frames_come_out_as_from_the_emulated_device(
    driver: Driver, engine: Engine, painted: Image8, make_frame: Callable[..., Frame], mapped: str
) -> None:
    frames = [make_frame(np.roll(painted, number, axis=1)) for number in range(8)]  # plainly, captured, as a graph
    options = CudaOptions(mapped=mapped)
    found = pictures(CudaRuntime(driver, HostFunctionNetwork(engine), 2, options), frames)
    expected = pictures(CudaRuntime(EmulatedDriver(), HostNetwork(engine), 2, options), frames)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one.mask, other.mask)
        assert_array_equal(one.overlay, other.overlay)
        assert_array_equal(one.confidence, other.confidence)
