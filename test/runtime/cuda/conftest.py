"""CUDA runtimes on the emulated driver, which no test may misuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.engine.manifest import Engine
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime

SEEDS = range(3)


@pytest.fixture(params=SEEDS)
def driver(request: pytest.FixtureRequest) -> Iterator[EmulatedDriver]:
    """A driver that runs what is enqueued as late and as oddly as it may."""
    driver = EmulatedDriver(seed=request.param)
    yield driver
    assert driver.misuses == []


@pytest.fixture
def network(engine: Engine) -> HostNetwork:
    """The tiny engine."""
    return HostNetwork(engine)


@pytest.fixture
def load_runtime(driver: EmulatedDriver, network: HostNetwork) -> Iterator[Callable[..., CudaRuntime]]:
    """`load_runtime(slots=..., driver=..., network=..., **options)`: loaded; closed at the test's end."""
    runtimes: list[CudaRuntime] = []

    def load(
        *, slots: int = 2, driver: EmulatedDriver = driver, network: HostNetwork = network, **options: Any
    ) -> CudaRuntime:
        runtimes.append(CudaRuntime(driver, network, slots, CudaOptions(**options)))
        runtimes[-1].load(lambda: None)
        return runtimes[-1]

    yield load
    for runtime in runtimes:
        runtime.close()


@pytest.fixture
def runtime(load_runtime: Callable[..., CudaRuntime]) -> CudaRuntime:
    """Two slots, everything by default."""
    return load_runtime()
