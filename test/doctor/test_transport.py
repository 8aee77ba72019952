"""What is said of the way that images take."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import RMW_IN_USE, Host
from eseg_ros.doctor.imports import Module
from eseg_ros.doctor.transport import LEAST_SHM, check_transport
from eseg_ros.share import share_folder

PROFILE = share_folder() / "config" / "fastdds.xml"
OLD, NEW = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
EXPORT = f"export {OLD}={PROFILE}"
ROOMY = (8 << 30, 7 << 30)
SYSCTL = {
    "/proc/sys/net/core/rmem_max": "2147483647\n",
    "/proc/sys/net/ipv4/ipfrag_high_thresh": "134217728\n",
    "/proc/sys/net/ipv4/ipfrag_time": "3\n",
}
CYCLONE = {RMW_IN_USE: Module("rmw_cyclonedds_cpp")}
MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


def test_a_tuned_machine_has_nothing_to_fix(sourced_jazzy: MachineMaker) -> None:
    host = sourced_jazzy({**SYSCTL, "/p/copy.xml": PROFILE.read_text()}, environment={OLD: "/p/copy.xml"}, shm=ROOMY)

    assert [finding.level for finding in check_transport(host, PROFILE)] == ["ok", "ok", "ok"]


def test_a_profile_that_is_not_set_comes_with_the_line_that_sets_it(
    sourced_jazzy: MachineMaker, about: FindingLookup
) -> None:
    finding = about(check_transport(sourced_jazzy(shm=ROOMY), PROFILE), f"{OLD} is not set")

    assert (finding.level, finding.stops_node, finding.commands) == ("fix", False, (EXPORT,))


def test_a_profile_that_does_not_exist_is_to_be_replaced(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(environment={OLD: "/gone/fastdds.xml"}, shm=ROOMY)

    finding = about(check_transport(host, PROFILE), "/gone/fastdds.xml, which does not exist")

    assert (finding.level, finding.commands) == ("fix", (EXPORT,))


def test_an_empty_profile_variable_is_a_mistake(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    assert about(check_transport(sourced_jazzy(environment={OLD: ""}, shm=ROOMY), PROFILE), "empty").level == "fix"


@pytest.mark.parametrize(
    ("distribution", "set_", "read"), [("humble", NEW, OLD), ("jazzy", NEW, OLD), ("kilted", OLD, NEW)]
)
def test_the_variable_of_another_fast_dds_is_not_read(
    sourced_jazzy: MachineMaker, about: FindingLookup, distribution: str, set_: str, read: str
) -> None:
    host = sourced_jazzy(environment={"ROS_DISTRO": distribution, set_: str(PROFILE)}, shm=ROOMY)

    finding = about(check_transport(host, PROFILE), f"reads {read}")

    assert finding.commands == (f"export {read}={PROFILE}",)


def profile_with(segment_size: str) -> str:
    transport = f"<transport_descriptor><segment_size>{segment_size}</segment_size></transport_descriptor>"
    namespace = "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"
    return f'<profiles xmlns="{namespace}"><transport_descriptors>{transport}</transport_descriptors></profiles>'


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (profile_with("33554432"), "ok", "a shared-memory segment of 32 MiB"),
        (profile_with("1048576"), "fix", "1.0 MiB, is too small"),
        ("<profiles/>", "fix", "0.0 MiB, is too small"),
        (profile_with("large"), "fix", "cannot read"),
        ("<profiles>", "fix", "cannot read"),
    ],
)
def test_a_profile_of_ones_own_is_judged_by_its_segment(
    sourced_jazzy: MachineMaker, about: FindingLookup, text: str, level: str, words: str
) -> None:
    host = sourced_jazzy({"/etc/mine.xml": text}, environment={OLD: "/etc/mine.xml"}, shm=ROOMY)

    assert about(check_transport(host, PROFILE), words).level == level


def test_without_dev_shm_all_goes_over_udp(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    finding = about(check_transport(sourced_jazzy(shm=None), PROFILE), "no /dev/shm")

    assert (finding.level, finding.stops_node) == ("fix", False)


@pytest.mark.parametrize(
    ("files", "remedy"), [({"/.dockerenv": ""}, "docker run --ipc=host"), ({}, "sudo mount -o remount")]
)
def test_a_small_dev_shm_is_enlarged_where_it_was_made(
    sourced_jazzy: MachineMaker, about: FindingLookup, files: dict[str, str], remedy: str
) -> None:
    host = sourced_jazzy(files, shm=(64 << 20, 60 << 20))

    assert about(check_transport(host, PROFILE), "60 MiB of 64 MiB free").commands[0].startswith(remedy)


def test_a_full_dev_shm_is_too_little(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(shm=(8 << 30, LEAST_SHM - 1))

    assert about(check_transport(host, PROFILE), "too little").level == "fix"


def test_segments_of_killed_processes_are_told_from_those_in_use(
    sourced_jazzy: MachineMaker, about: FindingLookup
) -> None:
    dead, alive, without_lock = "fastrtps_00bba6e1d3eb33c2", "fastdds_0208682483dcdcb2", "fastrtps_1111111111111111"
    others = ("fastrtps_port7412", "fastrtps_port7412_el", "my_memory")
    names = (dead, f"{dead}_el", alive, f"{alive}_el", without_lock, *others)
    host = sourced_jazzy({f"/dev/shm/{name}": "x" * 5000 for name in names}, shm=ROOMY)

    with host.path(f"/dev/shm/{alive}_el").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        finding = about(check_transport(host, PROFILE), "belong to no process")

    assert finding.text.startswith("2 segments")
    assert (finding.level, finding.commands) == ("note", ("fastdds shm clean",))


def test_many_leftover_segments_are_to_be_removed(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy({"/dev/shm/fastrtps_00bba6e1d3eb33c2": ""}, environment={"ROS_DISTRO": ""}, shm=ROOMY)
    with host.path("/dev/shm/fastrtps_00bba6e1d3eb33c2").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, LEAST_SHM + 1)

    finding = about(check_transport(host, PROFILE), "belong to no process")

    assert finding.level == "fix"
    assert "flock --nonblock" in finding.commands[0]  # the wheels' fastdds is not needed


def test_small_buffers_matter_little_to_fast_dds_and_much_to_cyclone(
    sourced_jazzy: MachineMaker, about: FindingLookup
) -> None:
    files = {**SYSCTL, "/proc/sys/net/core/rmem_max": "212992"}

    fast = about(check_transport(sourced_jazzy(files, shm=ROOMY), PROFILE), "rmem_max 212992")
    cyclone = about(check_transport(sourced_jazzy(files, modules=CYCLONE), PROFILE), "rmem_max 212992")

    assert (fast.level, cyclone.level) == ("note", "fix")
    assert "net.core.rmem_max=2147483647" in cyclone.commands[0]
    assert "sysctl --system" in cyclone.commands[0]


def test_buffers_that_a_container_cannot_see_are_left_to_the_host(
    sourced_jazzy: MachineMaker, about: FindingLookup
) -> None:
    assert about(check_transport(sourced_jazzy(shm=ROOMY), PROFILE), "look on the host").level == "note"


def test_fast_dds_settings_are_no_matter_of_cyclones(sourced_jazzy: MachineMaker) -> None:
    host = sourced_jazzy(SYSCTL, modules=CYCLONE, environment={"CYCLONEDDS_URI": "<CycloneDDS/>"})

    assert [finding.text for finding in check_transport(host, PROFILE) if "FAST" in finding.text] == []


def test_a_cyclone_configuration_that_does_not_exist_stops_the_node(
    sourced_jazzy: MachineMaker, about: FindingLookup
) -> None:
    host = sourced_jazzy(
        {"/etc/there.xml": ""}, modules=CYCLONE, environment={"CYCLONEDDS_URI": "file:///etc/gone.xml"}
    )

    assert about(check_transport(host, PROFILE), "/etc/gone.xml, which does not exist").stops_node


def test_the_shipped_profile_is_where_the_remedy_says() -> None:
    assert Path(EXPORT.partition("=")[2]).is_file()
