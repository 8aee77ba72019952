"""The processor and the memory that the node gets."""

from __future__ import annotations

from collections.abc import Iterator

from eseg_ros.doctor.finding import Finding, note, ok
from eseg_ros.doctor.host import Host
from eseg_ros.evaluation.machine import cpu_quota, memory_limit, processor_name

GIB = 1 << 30
LEAST_MEMORY = GIB  # bytes; the node takes about a third of it with one camera on the CPU, see docs/node.md
_X86 = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "bf16": {"avx512_bf16", "amx_bf16"},
    "AMX": {"amx_tile"},
}
_ARM = {"NEON": {"asimd"}, "fp16": {"asimdhp"}, "dot products": {"asimddp"}, "bf16": {"bf16"}, "i8mm": {"i8mm"}}
"""What inference libraries make use of -> any of these in /proc/cpuinfo's `flags` (x86) or `Features` (ARM)."""
_INT8 = {"VNNI", "AMX", "dot products", "i8mm"}


def check_processor(host: Host) -> Iterator[Finding]:
    """Processor, instructions, cores, clock, memory."""
    name, instructions = processor_name(host.root), _instructions(host)
    if "AVX2" in instructions or "NEON" in instructions:
        yield ok(f"{name}: {', '.join(instructions)}")
    else:
        yield note(f"{name}: neither AVX2 nor NEON is known of it; without them inference on the CPU is much slower")
    if instructions and not _INT8 & set(instructions):
        yield note("no instructions for 8-bit products (VNNI, dot products): int8 engines gain little on this CPU")
    yield from _cores(host)
    yield from _governor(host)
    yield _memory(host)


def _instructions(host: Host) -> list[str]:
    for line in host.read("/proc/cpuinfo").splitlines():
        key, _, words = line.partition(":")
        known = {"flags": _X86, "Features": _ARM}.get(key.strip())
        if known is not None:
            return [name for name, flags in known.items() if flags & set(words.split())]
    return []


def _cores(host: Host) -> Iterator[Finding]:
    quota = cpu_quota(host.root)
    if quota < host.cores:
        yield note(
            f"a control group leaves {quota:.3g} cores' worth of time on {host.cores} cores: more threads are "
            "stopped in the middle of an inference. Set the node's parameter `threads`, or allow more",
            *(["docker run --cpus=4 ..."] if host.is_container else []),
        )
    elif host.cores < 2:
        yield note("1 core: preparing a frame and inference cannot overlap")
    else:
        yield ok(f"{host.cores} cores")


def _governor(host: Host) -> Iterator[Finding]:
    """intel_pstate and amd-pstate in active mode go to full speed by "powersave" too."""
    folder = "/sys/devices/system/cpu/cpu0/cpufreq"
    governor, driver = host.read(f"{folder}/scaling_governor"), host.read(f"{folder}/scaling_driver")
    if governor == "powersave" and driver not in ("intel_pstate", "amd-pstate-epp"):
        yield note(
            "CPU governor powersave: the cores stay at their lowest clock",
            "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    elif governor:
        yield ok(f"CPU governor {governor} ({driver or 'driver not told'})")


def _memory(host: Host) -> Finding:
    lines = (line.split() for line in host.read("/proc/meminfo").splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
    total, available = kib["MemTotal"] * 1024, kib.get("MemAvailable", kib.get("MemFree", 0)) * 1024
    limit = memory_limit(host.root)
    text = f"memory: {available / GIB:.1f} of {total / GIB:.1f} GiB available"
    if limit < total:
        text += f", of which a control group leaves {limit / GIB:.1f} GiB"
    return (note if min(available, limit) < LEAST_MEMORY else ok)(text)
