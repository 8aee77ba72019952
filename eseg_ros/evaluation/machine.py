"""The machine in words, for reports."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_description() -> str:
    """Processor, usable cores, memory, system and Python, e.g. "AMD EPYC 7763, 2 cores, 8 GiB, Linux x86_64, ..."."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    """The kernel's name of the processor; on Jetson, which has none there, the board's."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line.strip("\0 ")
    return platform.processor() or "unknown processor"
