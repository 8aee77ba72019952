"""What the tests on a GPU share. Without a GPU none of them is collected; `make test-gpu` runs them alone, and insists.

The emulated driver, which runs the host build of the kernels, says what is right.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from emulated_driver import EmulatedDriver

from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.cuda.drivers import DRIVERS, open_driver
from eseg_ros.runtime.cuda.network import DeviceNetwork
from eseg_ros.runtime.types import Image8

SOAK_FRAMES = 10_000
FOUND: dict[str, Any] = {}
"""The GPU, for the results."""

RuntimeLoader = Callable[..., CudaRuntime]


def missing(kind: str) -> str:
    """Why the GPU cannot be used through this library; empty if it can."""
    try:
        driver = open_driver(kind)
        driver.open(0)
    except RuntimeUnavailableError as error:
        return str(error)
    driver.close()
    return ""


MISSING = {kind: missing(kind) for kind in DRIVERS}
NO_GPU = MISSING.pop("auto")
collect_ignore_glob = ["test_*.py"] if NO_GPU else []


def pytest_report_collectionfinish() -> list[str]:
    """One line, whatever is missing."""
    if NO_GPU:
        return [f"test/gpu is left out: {NO_GPU}"]
    return [f"test/gpu goes without {kind}: {reason}" for kind, reason in MISSING.items() if reason]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("GPU")
    group.addoption("--soak-frames", type=int, default=SOAK_FRAMES, help="frames of the soak; default: %(default)s")
    group.addoption("--results", type=Path, help="write there what ran on what, and how it ended, as JSON")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Write the results that `--results` asks for."""
    path = config.getoption("--results", None)
    if path is None:
        return
    stats = terminalreporter.stats
    outcomes = ("passed", "failed", "error", "skipped")
    results = {
        "machine": machine_description(),
        "gpu": FOUND,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "pytest", *sys.argv[1:]]),
        "exit_status": int(exitstatus),
        **{outcome: len(stats.get(outcome, [])) for outcome in outcomes},
        "failures": [report.nodeid for outcome in ("failed", "error") for report in stats.get(outcome, [])],
        "skips": sorted({str(report.longrepr[2]) for report in stats.get("skipped", [])}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Iterator[DeviceInfo]:
    """The GPU. Its primary context lives as long as the tests, so that no test has to wait for a new one."""
    driver = open_driver()
    info = driver.open(0)
    FOUND.update(asdict(info), driver=driver.name)
    yield info
    driver.close()


@pytest.fixture(scope="session", params=[kind for kind, reason in MISSING.items() if not reason])
def kind(request: pytest.FixtureRequest) -> str:
    """Each library that works here."""
    return str(request.param)


@pytest.fixture
def driver(kind: str) -> Driver:
    """Not open."""
    return open_driver(kind)


@pytest.fixture
def load_runtime(driver: Driver) -> Iterator[RuntimeLoader]:
    """`load_runtime(network, slots=..., driver=..., **options)`: loaded; closed at the test's end."""
    runtimes: list[CudaRuntime] = []

    def load(network: DeviceNetwork, *, slots: int = 2, driver: Driver = driver, **options: Any) -> CudaRuntime:
        runtimes.append(CudaRuntime(driver, network, slots, CudaOptions(**options)))
        runtimes[-1].load(lambda: None)
        return runtimes[-1]

    yield load
    for runtime in reversed(runtimes):
        runtime.close()


@pytest.fixture
def emulator() -> Iterator[EmulatedDriver]:
    """Not open."""
    driver = EmulatedDriver()
    yield driver
    assert driver.misuses == []


@pytest.fixture(scope="session")
def streets() -> list[Image8]:
    """Four rendered frames, (240, 320, 3) BGR."""
    return [render_frame(seed, 320, 240).image for seed in range(4)]
