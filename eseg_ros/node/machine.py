"""What the process and the machine are doing, as Linux tells it; None where it does not."""

from __future__ import annotations

import os
from pathlib import Path

THERMAL = Path("/sys/class/thermal")


def resident_memory_mib() -> float | None:
    """Memory that this process holds, MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def hottest_zone(folder: Path = THERMAL) -> tuple[str, float] | None:
    """Name and temperature (°C) of the hottest thermal zone, e.g. a Jetson's "tj-thermal"."""
    zones = []
    for zone in folder.glob("thermal_zone*"):
        try:
            name = (zone / "type").read_text(encoding="utf-8").strip()
            zones.append((int((zone / "temp").read_text(encoding="ascii")) / 1000, name))
        except (OSError, ValueError):  # a zone that is switched off has no readable temperature
            continue
    if not zones:
        return None
    temperature, name = max(zones)
    return name, temperature
