"""The energy that the machine took, where its sensors can be read without special rights."""

from __future__ import annotations

import re
import time
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

_SYSFS = Path("/sys")
_PERIOD_S = 0.1
_TOTAL_RAIL = re.compile("VDD_IN|SYS5V|POM_5V_IN", re.IGNORECASE)  # what Jetson boards call their whole input


class EnergyMeter:
    """Joules from entering to leaving; a context manager.

    On PCs these are the processor packages by Intel's and AMD's RAPL counters (powercap), which many kernels let only
    root read; on Jetson the whole board by its INA3221 sensor, sampled ten times a second, as tegrastats does.

    Args:
        sysfs: where the kernel shows its sensors.

    Attributes:
        joules: None where there is no such sensor or it may not be read.
    """

    def __init__(self, sysfs: Path = _SYSFS) -> None:
        self.joules: float | None = None
        self._counters = _rapl_counters(sysfs)
        self._rail = None if self._counters else _jetson_rail(sysfs)
        self._before: list[int] = []
        self._stopped = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> EnergyMeter:
        self._before = [_read(counter / "energy_uj") for counter in self._counters]
        if self._rail is not None:
            self._thread = Thread(target=self._sample, args=self._rail, name="energy")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._counters:
            after = [_read(counter / "energy_uj") for counter in self._counters]
            # The counters run over; once, at most, in the time of a sequence.
            ranges = [_read(counter / "max_energy_range_uj") + 1 for counter in self._counters]
            self.joules = sum((b - a) % span for a, b, span in zip(self._before, after, ranges, strict=True)) / 1e6
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()

    def _sample(self, voltage_mv: Path, current_ma: Path) -> None:
        joules, before = 0.0, time.monotonic()
        while True:
            stopped = self._stopped.wait(_PERIOD_S)
            now = time.monotonic()
            joules += _read(voltage_mv) * _read(current_ma) / 1e6 * (now - before)
            before = now
            if stopped:
                self.joules = joules
                return


def _rapl_counters(sysfs: Path) -> list[Path]:
    """The packages; their parts (cores, memory) lie below and are counted in them."""
    packages = [path for path in sorted((sysfs / "class/powercap").glob("intel-rapl:*")) if path.name.count(":") == 1]
    return [path for path in packages if _readable(path / "energy_uj") and _readable(path / "max_energy_range_uj")]


def _jetson_rail(sysfs: Path) -> tuple[Path, Path] | None:
    """Voltage and current of the board's input."""
    for label in sorted((sysfs / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        rail = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        if _TOTAL_RAIL.search(label.read_text()) and all(map(_readable, rail)):
            return rail
    return None


def _readable(path: Path) -> bool:
    try:
        _read(path)
    except (OSError, ValueError):
        return False
    return True


def _read(path: Path) -> int:
    return int(path.read_text())
