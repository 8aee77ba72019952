"""NVIDIA's own measure of an engine, trtexec, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.plan_cache import default_cache, find_plan
from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.tensorrt.api import import_tensorrt, machine_of

FOLDERS = ("/usr/src/tensorrt/bin", "/opt/tensorrt/bin")
"""Where Debian's packages, as on Jetson, and NVIDIA's containers put it."""

LAUNCH = ("--useCudaGraph", "--useSpinWait", "--noDataTransfers")
"""Named one by one: TensorRT 11 has all three by default, the versions before none of them."""

MEASURE = ("--warmUp=500", "--iterations=200", "--duration=3", "--avgRuns=1", "--streams=1")


def find_trtexec() -> str | None:
    """The program, from PATH or from where NVIDIA's packages put it."""
    return shutil.which("trtexec") or next(filter(None, (shutil.which("trtexec", path=path) for path in FOLDERS)), None)


def plan_of(engine: Path) -> Path:
    """The plan in the cache that runs an engine with TensorRT on this machine.

    Raises:
        EngineError: there is none.
        RuntimeUnavailableError: there is no GPU, or no TensorRT.
    """
    driver = open_driver()
    try:
        machine = machine_of(import_tensorrt("tensorrt"), "tensorrt", driver.open(0))
    finally:
        driver.close()
    return find_plan(load_engine(engine), machine, default_cache()).path


def trtexec_command(program: str, plan: Path, times: Path) -> list[str]:
    """The whole command line; it writes a record an inference to `times`."""
    return [program, f"--loadEngine={plan}", *LAUNCH, *MEASURE, f"--exportTimes={times}"]


def run_trtexec(program: str, plan: Path) -> tuple[list[str], list[float]]:
    """Time a plan; the command line and the milliseconds of each inference on the device.

    Raises:
        DeviceError: trtexec failed.
    """
    with TemporaryDirectory(prefix="eseg_trtexec_") as folder:
        times = Path(folder) / "times.json"
        command = trtexec_command(program, plan, times)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or not times.exists():
            lines = (done.stdout + done.stderr).strip().splitlines()[-5:]
            raise DeviceError(f"{' '.join(command)} ended with status {done.returncode}: {' | '.join(lines)}")
        return command, compute_times(json.loads(times.read_text(encoding="utf-8")))


def compute_times(records: list[dict[str, Any]]) -> list[float]:
    """The inferences' own milliseconds from what `--exportTimes` wrote."""
    return [float(record["computeMs"]) for record in records]
