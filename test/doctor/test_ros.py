"""What is said of ROS 2."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import RMW_IN_USE, Host
from eseg_ros.doctor.imports import Module
from eseg_ros.doctor.ros import check_ros

MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


def test_a_sourced_ros_with_everything_has_nothing_to_fix(sourced_jazzy: MachineMaker) -> None:
    findings = list(check_ros(sourced_jazzy()))

    assert {finding.level for finding in findings} == {"ok"}
    assert findings[0].text == "ROS 2 jazzy, sourced"


def test_wheels_are_told_from_a_sourced_ros(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(environment={"ROS_DISTRO": ""}, packages={"ros-kilted-rclpy": "9.0"})

    assert about(check_ros(host), "wheels").text.startswith("ROS 2 kilted")


def test_an_installed_ros_that_is_not_sourced_is_to_be_sourced(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({"/opt/ros/humble/setup.bash": ""})

    finding = about(check_ros(host), "no ROS 2 is sourced")

    assert finding.stops_node
    assert finding.commands == ("source /opt/ros/humble/setup.bash",)


def test_a_ros_for_another_python_is_named_as_such(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine(
        environment={"ROS_DISTRO": "humble", "PYTHONPATH": "/opt/ros/humble/lib/python3.10/site-packages"},
        modules={"rclpy": Module(error="No module named 'rclpy._rclpy_pybind11'")},
        python=(3, 12),
    )

    finding = about(check_ros(host), "ROS 2 humble is for Python 3.10, and this is Python 3.12")

    assert finding.stops_node
    assert finding.commands[0].startswith("python3.10 -m venv --system-site-packages")


@pytest.mark.parametrize("fails", ["rclpy", RMW_IN_USE])  # rclpy itself, on some distributions
def test_a_middleware_that_is_not_installed_stops_the_node(
    sourced_jazzy: MachineMaker, about: FindingLookup, fails: str
) -> None:
    host = sourced_jazzy(
        environment={"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        modules={fails: Module(error="Expected RMW implementation identifier of 'rmw_cyclonedds_cpp'")},
    )

    finding = about(check_ros(host), "RMW_IMPLEMENTATION is rmw_cyclonedds_cpp, which is not installed")

    assert finding.stops_node
    assert finding.commands[0].startswith("sudo apt install ros-jazzy-rmw-cyclonedds-cpp")


def test_missing_messages_stop_the_node(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    finding = about(check_ros(sourced_jazzy(modules={"diagnostic_msgs.msg": None})), "diagnostic_msgs is not installed")

    assert finding.stops_node
    assert finding.commands == ("sudo apt install ros-jazzy-diagnostic-msgs",)


def test_what_is_optional_is_a_note_with_its_packages(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(modules={"vision_msgs.msg": None, "cv_bridge": None})

    finding = about(check_ros(host), "optional, not installed")

    assert finding.level == "note"
    assert finding.commands == ("sudo apt install ros-jazzy-vision-msgs ros-jazzy-cv-bridge",)


def test_a_cv_bridge_built_for_numpy_1_is_left_aside(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(modules={"cv_bridge": Module(error="AttributeError: _ARRAY_API not found")})

    finding = about(check_ros(host), "cv_bridge cannot be imported")

    assert (finding.level, finding.commands) == ("note", ("pip install 'numpy<2'",))


@pytest.mark.parametrize("domain", ["-1", "233", "front"])
def test_a_domain_that_is_none_stops_the_node(sourced_jazzy: MachineMaker, about: FindingLookup, domain: str) -> None:
    assert about(check_ros(sourced_jazzy(environment={"ROS_DOMAIN_ID": domain})), "ROS_DOMAIN_ID").stops_node


def test_a_discovery_that_ends_at_this_machine_is_told_of(sourced_jazzy: MachineMaker, about: FindingLookup) -> None:
    host = sourced_jazzy(environment={"ROS_LOCALHOST_ONLY": "1"})

    assert about(check_ros(host), "only nodes of this machine").level == "note"
