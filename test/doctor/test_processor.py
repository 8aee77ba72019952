"""What is said of processor and memory, and how control groups are read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.processor import check_processor
from eseg_ros.evaluation.machine import cpu_quota, memory_limit, processor_name

MEMORY = {"/proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 100 kB\nMemAvailable: 8388608 kB\n"}
X86 = {"/proc/cpuinfo": "model name\t: AMD EPYC\nflags\t\t: sse2 avx2 avx512f avx512_vnni avx512_bf16\n", **MEMORY}
ORIN = {
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp asimddp\n",
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    **MEMORY,
}
CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq"
MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (X86, "AMD EPYC: AVX2, AVX-512, VNNI, bf16"),
        (ORIN, "NVIDIA Jetson Orin Nano: NEON, fp16, dot products"),
    ],
)
def test_processors_are_named_with_what_inference_uses(machine: MachineMaker, files: dict[str, str], text: str) -> None:
    findings = list(check_processor(machine(files, cores=4)))

    assert {finding.level for finding in findings} == {"ok"}
    assert findings[0].text == text


def test_a_processor_without_avx2_is_told_of(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({"/proc/cpuinfo": "model name: Celeron\nflags: sse2 sse4_2\n", **MEMORY})

    assert about(check_processor(host), "Celeron").level == "note"


def test_an_old_governor_that_saves_power_is_told_of(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({**X86, f"{CPUFREQ}/scaling_governor": "powersave", f"{CPUFREQ}/scaling_driver": "acpi-cpufreq"})

    assert about(check_processor(host), "governor powersave").commands


def test_powersave_of_intel_pstate_is_well(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({**X86, f"{CPUFREQ}/scaling_governor": "powersave", f"{CPUFREQ}/scaling_driver": "intel_pstate"})

    assert about(check_processor(host), "governor powersave").level == "ok"


def test_little_memory_is_told_of(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({**X86, "/proc/meminfo": "MemTotal: 4194304 kB\nMemAvailable: 524288 kB\n"})

    assert about(check_processor(host), "0.5 of 4.0 GiB").level == "note"


def test_a_container_with_less_time_than_cores_is_told_of(machine: MachineMaker, about: FindingLookup) -> None:
    files = {**X86, "/.dockerenv": "", "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"}

    finding = about(check_processor(machine(files, cores=8)), "1.5 cores' worth of time on 8 cores")

    assert finding.commands[0].startswith("docker run --cpus")


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        pytest.param({}, float("inf"), float("inf"), id="no control groups"),
        pytest.param(
            {
                "/proc/self/cgroup": "0::/robot/node\n",
                "/sys/fs/cgroup/robot/node/cpu.max": "max 100000\n",
                "/sys/fs/cgroup/robot/cpu.max": "250000 100000\n",
                "/sys/fs/cgroup/robot/memory.max": "1073741824\n",
                "/sys/fs/cgroup/robot/node/memory.max": "max\n",
            },
            2.5,
            1 << 30,
            id="version 2, by the group around this one",
        ),
        pytest.param(
            {
                "/proc/self/cgroup": "5:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n",
                "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "50000\n",
                "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "2147483648\n",
            },
            0.5,
            2 << 30,
            id="version 1",
        ),
    ],
)
def test_the_narrowest_control_group_counts(
    machine: MachineMaker, files: dict[str, str], cores: float, memory: float
) -> None:
    root = machine(files).root

    assert cpu_quota(root) == cores
    assert memory_limit(root) == memory


def test_a_jetson_is_named_by_its_board(machine: MachineMaker) -> None:
    assert processor_name(machine(ORIN).root) == "NVIDIA Jetson Orin Nano"
