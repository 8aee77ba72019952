"""Each installed library, on the real driver, does what every CUDA driver must do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from driver_conformance import DriverConformance

from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver

TESTS = Path(__file__).parents[1] / "runtime" / "cuda"

LOSE_THE_DEVICE = """
import pytest
from driver_conformance import BLOCK, Bench, scaling
from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.drivers import open_driver

driver = open_driver({kind!r})
bench = Bench(driver)
stream, nowhere = bench.stream(), 1 << 20
driver.launch(bench.preprocess(), (1, 1, 1), BLOCK, scaling(nowhere, nowhere, 6, 4, scale=1), stream)
with pytest.raises(DeviceError, match="The device is lost"):
    bench.wait_for(stream)
with pytest.raises(DeviceError, match="The device is lost"):
    driver.alloc(64)
bench.close()

bench = Bench(driver)
assert bench.there_and_back(4, bench.stream()) == {4}
bench.close()
"""


class TestDriver(DriverConformance):
    """The protocol."""

    @pytest.fixture
    def driver(self, driver: Driver) -> Driver:
        return driver


def test_the_kernels_that_are_shipped_run_on_this_gpu(driver: Driver) -> None:
    from eseg_ros.runtime.cuda.kernel_module import fatbin

    driver.open(0)
    module = driver.load_module(fatbin())
    assert driver.function(module, "eseg_preprocess") != driver.function(module, "eseg_postprocess")
    driver.unload_module(module)
    driver.close()


def test_both_libraries_describe_one_gpu(gpu: DeviceInfo, driver: Driver) -> None:
    assert driver.open(0) == gpu
    driver.close()


def test_a_lost_device_is_told_and_can_be_opened_anew(kind: str) -> None:
    """In a process of its own: all that is in the process's context is lost with it."""
    code = LOSE_THE_DEVICE.format(kind=kind)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{code}"],
        cwd=TESTS.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
