"""What images travel through: shared memory with its profile, and the network's buffers.

docs/node.md, "Large images over DDS", has what was measured.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from eseg_ros.doctor.finding import Finding, fix, note, ok
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.ros import distribution, middleware

MIB = 1 << 20
LEAST_SEGMENT = 16 * MIB
"""Two uncompressed images of 1024x2048; the shipped profile has 64 MiB."""
LEAST_SHM = 256 * MIB
"""Of /dev/shm: three processes with the shipped profile, a camera driver, the node and a viewer, and some room."""
LEAST_RMEM = 10_000_000  # bytes, as ROS 2's "DDS tuning" has it, like the three that follow
TUNED = {"net.core.rmem_max": 2147483647, "net.ipv4.ipfrag_high_thresh": 134217728, "net.ipv4.ipfrag_time": 3}
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_FAST_DDS_2 = ("foxy", "galactic", "humble", "iron", "jazzy")
_SEGMENT = re.compile(r"fast(rtps|dds)_[0-9a-f]{16}")
_REMOVE_UNLOCKED = (
    'for lock in /dev/shm/fast*_????????????????_el; do flock --nonblock "$lock" rm -f "${lock%_el}" "$lock"; done'
)


def check_transport(host: Host, profile: Path) -> Iterator[Finding]:
    """The middleware's configuration, shared memory, and buffers for images from other machines.

    Args:
        host: the machine.
        profile: the Fast DDS profile that is shipped.
    """
    rmw = middleware(host)
    if "fastrtps" in rmw:
        yield _fast_dds(host, profile)
        yield from _shared_memory(host)
        yield from _leftovers(host)
    elif "cyclonedds" in rmw:
        yield _cyclone_dds(host)
    yield _network(host, over_udp="cyclonedds" in rmw)


def _fast_dds(host: Host, shipped: Path) -> Finding:
    """The profile; Fast DDS 3 reads another variable than 2."""
    old, new = _PROFILE_VARIABLES
    name, other = (old, new) if distribution(host) in (*_FAST_DDS_2, "") else (new, old)
    export = f"export {name}={shlex.quote(str(shipped))}"
    value = host.environment.get(name)
    if value == "":
        return fix(f"{name} is set, but empty", export)
    if value is None and host.environment.get(other):
        return fix(f"{other} is set, but the Fast DDS of ROS 2 {distribution(host)} reads {name}", export)
    if value is None:
        return fix(
            f"{name} is not set: what is started from this shell sends large images through half a megabyte of shared "
            "memory and loses most of them. The launch files set it for the node; the camera's driver needs it too",
            export,
        )
    return _profile(host, name, Path(value), shipped, export)


def _profile(host: Host, name: str, path: Path, shipped: Path, export: str) -> Finding:
    there = host.path(str(path)) if path.is_absolute() else path
    if not there.is_file():
        return fix(f"{name} names {path}, which does not exist: Fast DDS goes on without a profile", export)
    if there.read_bytes() == shipped.read_bytes():
        return ok(f"{name}: the shipped profile; the camera's driver needs it too")
    try:
        segment = _largest_segment(there)
    except (ElementTree.ParseError, ValueError) as error:
        return fix(f"{name} names {path}, which Fast DDS cannot read ({error})", export)
    if segment < LEAST_SEGMENT:
        return fix(
            f"{name} names {path}, whose shared-memory segment, {segment / MIB:.1f} MiB, is too small for "
            "uncompressed images: most are lost. Take segment_size and maxMessageSize from the shipped one, or",
            export,
        )
    return ok(f"{name}: {path}, a shared-memory segment of {segment / MIB:.0f} MiB")


def _largest_segment(profile: Path) -> int:
    """Bytes of the largest shared-memory segment that a Fast DDS profile asks for; 0 if it asks for none."""
    sizes = ElementTree.parse(profile).getroot().iterfind(".//{*}transport_descriptor/{*}segment_size")
    return max((int(size.text or "") for size in sizes), default=0)


def _shared_memory(host: Host) -> Iterator[Finding]:
    if host.shm is None:
        yield fix("there is no /dev/shm: all images go over UDP", "sudo mount -t tmpfs -o size=1G tmpfs /dev/shm")
        return
    size, free = host.shm
    text = f"/dev/shm: {_binary(free)} of {_binary(size)} free"
    if size < LEAST_SHM:
        in_container = "docker run --ipc=host ...   # or --shm-size=1g"
        remedy = in_container if host.is_container else "sudo mount -o remount,size=1G /dev/shm"
        yield fix(f"{text}; too small for the profile's segments, 64 MiB a process", remedy)
    elif free < LEAST_SHM:
        yield fix(
            f"{text}: too little for the profile's segments, 64 MiB a process", "du -ah /dev/shm | sort -h | tail"
        )
    else:
        yield ok(text)


def _leftovers(host: Host) -> Iterator[Finding]:
    """Segments of processes that were killed: nobody holds the lock of their lock file any more."""
    folder = host.path("/dev/shm")
    names = os.listdir(folder) if folder.is_dir() else []
    dead = [folder / name for name in names if _SEGMENT.fullmatch(name) and not _is_locked(folder / f"{name}_el")]
    if dead:
        size = sum(path.stat().st_blocks * 512 for path in dead if path.exists())
        text = f"{len(dead)} segments of Fast DDS in /dev/shm, {_binary(size)} of memory, belong to no process any more"
        remedy = "fastdds shm clean" if host.environment.get("ROS_DISTRO") else _REMOVE_UNLOCKED  # not in the wheels
        yield (fix if size > LEAST_SHM else note)(text, remedy)


def _is_locked(path: Path) -> bool:
    """Whether a process holds a file's lock; one that cannot be asked for counts as held."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _cyclone_dds(host: Host) -> Finding:
    uri = host.environment.get("CYCLONEDDS_URI", "")
    if not uri:
        return note(
            "CYCLONEDDS_URI is not set: Cyclone DDS then takes its own, small receive buffers for large images",
            'export CYCLONEDDS_URI=\'<CycloneDDS><Domain><Internal><SocketReceiveBufferSize min="10MB"/></Internal>'
            "</Domain></CycloneDDS>'",
        )
    for part in () if "<" in uri else uri.split(","):
        path = unquote(urlsplit(part).path)
        if not host.path(path).is_file():
            return fix(f"CYCLONEDDS_URI names {path}, which does not exist", "unset CYCLONEDDS_URI", stops_node=True)
    return ok(f"CYCLONEDDS_URI: {uri if len(uri) < 80 else 'set'}")


def _network(host: Host, over_udp: bool) -> Finding:
    """The kernel's buffers. Fast DDS needs them only for other machines, Cyclone DDS for every image."""
    values = {name: host.read("/proc/sys/" + name.replace(".", "/")) for name in TUNED}
    rmem = values["net.core.rmem_max"]
    if not rmem.isdecimal():
        return note("net.core.rmem_max cannot be read here (a container's own network): look on the host itself")
    text = ", ".join(f"{name} {value or '?'}" for name, value in values.items())
    if int(rmem) >= LEAST_RMEM:
        return ok(text)
    command = f"printf '%s\\n' {' '.join(f'{name}={value}' for name, value in TUNED.items())} | "
    remedy = command + "sudo tee /etc/sysctl.d/60-ros2-images.conf && sudo sysctl --system"
    if over_udp:
        return fix(f"{text}: too small for images of 6 MB, all of which Cyclone DDS sends through them", remedy)
    return note(f"{text}: small for uncompressed images from other machines; on one machine they do not matter", remedy)


def _binary(size: int) -> str:
    """ "64 MiB", "7.5 GiB"."""
    return f"{size / MIB:.0f} MiB" if size < 1024 * MIB else f"{size / MIB / 1024:.1f} GiB"
