"""What is said of Python and its packages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.imports import Module
from eseg_ros.doctor.packages import check_packages, version_tuple

GOOD = {"numpy": Module("2.1.0"), "cv2": Module("4.10.0"), "openvino": Module("2025.1.0-123-releases")}
MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


def test_a_good_installation_has_nothing_to_fix(machine: MachineMaker) -> None:
    host = machine(modules=GOOD, packages={"rosbags": "0.11", "torch": "2.8", "ray": "2.30"})

    assert {finding.level for finding in check_packages(host)} == {"ok"}


def test_opencv_5_stops_the_node_and_the_wheel_that_brought_it_is_replaced(
    machine: MachineMaker, about: FindingLookup
) -> None:
    host = machine(modules={**GOOD, "cv2": Module("5.0.0")}, packages={"opencv-python-headless": "5.0.0"})

    finding = about(check_packages(host), "OpenCV 5.0.0")

    assert (finding.level, finding.stops_node) == ("fix", True)
    assert finding.commands == ("pip install 'opencv-python-headless>=4.5.4,<5'",)


@pytest.mark.parametrize("error", ["numpy.core.multiarray failed to import", "AttributeError: _ARRAY_API not found"])
def test_an_opencv_built_for_numpy_1_asks_for_numpy_1(machine: MachineMaker, about: FindingLookup, error: str) -> None:
    host = machine(modules={**GOOD, "cv2": Module(error=error)})

    finding = about(check_packages(host), "built for NumPy 1, but NumPy 2.1.0")

    assert finding.stops_node
    assert finding.commands == ("pip install 'numpy<2'",)


def test_what_is_missing_stops_the_node(machine: MachineMaker) -> None:
    stopping = [finding.text for finding in check_packages(machine()) if finding.stops_node]

    assert stopping == [
        "NumPy is not installed",
        "OpenCV is not installed",
        "no inference library for the CPU is installed",
    ]


def test_with_tensorrt_no_library_for_the_cpu_is_needed(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine(modules={"numpy": GOOD["numpy"], "cv2": GOOD["cv2"], "tensorrt": Module("10.3.0")})

    assert not about(check_packages(host), "no inference library").stops_node


def test_an_openvino_that_cannot_be_imported_stops_the_node_though_onnxruntime_works(
    machine: MachineMaker, about: FindingLookup
) -> None:
    """`runtime: auto` takes OpenVINO where it is installed."""
    host = machine(modules={**GOOD, "openvino": Module(error="libtbb.so.12 is missing"), "onnxruntime": Module("1.20")})

    findings = list(check_packages(host))

    assert about(findings, "libtbb.so.12").stops_node
    assert about(findings, "inference on the CPU: onnxruntime 1.20").level == "ok"


def test_a_python_that_is_too_old_stops_the_node(machine: MachineMaker, about: FindingLookup) -> None:
    assert about(check_packages(machine(python=(3, 8), modules=GOOD)), "Python 3.8").stops_node


@pytest.mark.parametrize(
    ("text", "numbers"), [("4.14.0.94", (4, 14, 0, 94)), ("2.13.0+cpu", (2, 13, 0)), ("11.0rc1", (11, 0)), ("", ())]
)
def test_versions_are_compared_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers
