"""The machine in words, for reports, and what this process may use of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def machine_description() -> str:
    """Processor, usable cores, memory, system and Python, e.g. "AMD EPYC 7763, 2 cores, 8 GiB, Linux x86_64, ..."."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cores = min(len(os.sched_getaffinity(0)), cpu_quota())
    return (
        f"{processor_name()}, {cores:.3g} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def processor_name(root: Path = ROOT) -> str:
    """The kernel's name of the processor; on Jetson, which has none there, the board's."""
    for path, key in (("proc/cpuinfo", "model name"), ("proc/device-tree/model", "")):
        for line in _read(root / path).splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line.strip("\0 ")
    return platform.processor() or "unknown processor"


def cpu_quota(root: Path = ROOT) -> float:
    """Cores' worth of time that the control groups of this process leave it, e.g. 1.5; infinite without a limit."""
    quotas = [float("inf")]
    for path in _control_group_files(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        words = _read(path).split()
        if path.name != "cpu.max":  # there "QUOTA PERIOD" or "max PERIOD", here two files, and -1
            words += _read(path.with_name("cpu.cfs_period_us")).split()
        if len(words) == 2 and words[0].isdecimal():
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas)


def memory_limit(root: Path = ROOT) -> float:
    """Bytes that the control groups of this process leave it; infinite, or beyond all memory, without a limit."""
    paths = _control_group_files(root, "memory", "memory.max", "memory.limit_in_bytes")
    return min((int(text) for path in paths if (text := _read(path).strip()).isdecimal()), default=float("inf"))


def _control_group_files(root: Path, controller: str, name: str, name_in_v1: str) -> Iterator[Path]:
    """A file of this process's control group and of every group around it, in version 2 and in 1."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        path = PurePosixPath(group.lstrip("/"))
        if not controllers:
            yield from (root / "sys/fs/cgroup" / level / name for level in (path, *path.parents))
        elif controller in controllers.split(","):
            yield from (root / "sys/fs/cgroup" / controller / level / name_in_v1 for level in (path, *path.parents))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
