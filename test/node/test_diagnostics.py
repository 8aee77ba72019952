from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from eseg_ros.node import diagnostics
from eseg_ros.node.diagnostics import (
    CameraHealth,
    DiagnosticsPublisher,
    EngineHealth,
    camera_status,
    engine_status,
    percentiles,
)
from eseg_ros.node.machine import hottest_zone, resident_memory_mib

if TYPE_CHECKING:
    from conftest import RosGraph

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def health(**values: Any) -> CameraHealth:
    return CameraHealth(**({"name": "front", "topic": "/image", "silent_s": 0.1} | values))


@pytest.mark.parametrize(
    ("camera", "level", "message"),
    [
        (health(active=False), OK, "inactive"),
        (health(idle=True), OK, "idle: nobody subscribes to an output of front, and lazy is set"),
        (health(silent_s=None), WARN, "waiting for the first frame on /image"),
        (health(silent_s=None, publishers=0), WARN, "waiting for the first frame on /image, which nobody publishes"),
        (health(silent_s=None, problem="set transport"), ERROR, "set transport"),
        (health(idle=True, problem="set transport"), ERROR, "set transport"),
        (health(silent_s=3.25), ERROR, "stale: no frame for 3.2 s on /image"),
        (
            health(silent_s=3.25, publishers=0),
            ERROR,
            "stale: no frame for 3.2 s on /image, which nobody publishes any more",
        ),
        (health(recent={"received": 10}), OK, "ok"),
        (health(recent={"received": 10, "dropped_busy": 1}), OK, "ok"),
        (health(recent={"received": 10, "dropped_rate": 9}), OK, "ok"),
        (
            health(recent={"received": 10, "dropped_busy": 4}),
            WARN,
            "dropping 40 %: the engine is slower than the cameras; set cameras.front.max_rate to what it can do, or "
            "take a smaller engine",
        ),
        (
            health(recent={"received": 20, "dropped_busy": 10, "rejected": 3, "published": 7}, last_rejection="cut"),
            WARN,
            "rejecting 30 %: cut",
        ),
        (health(recent={"received": 20, "rejected": 10}, last_rejection="cut"), ERROR, "rejecting 100 %: cut"),
    ],
)
def test_a_camera_is_judged_by_the_first_thing_that_is_wrong(camera: CameraHealth, level: bytes, message: str) -> None:
    status = camera_status(camera)

    assert (status.level, status.message) == (level, message)


def test_frames_that_are_too_old_are_told_with_the_remedy() -> None:
    status = camera_status(health(recent={"received": 10, "dropped_stale": 10}))

    assert status.level == WARN
    assert status.message.startswith("dropping 100 % by max_age_ms")
    assert "use_sim_time" in status.message


@pytest.mark.parametrize(
    ("silent_s", "received", "level", "share"), [(0.1, 10, WARN, "50 %"), (None, 0, ERROR, "100 %")]
)
def test_images_lost_on_the_way_are_told_with_the_remedy(
    silent_s: float | None, received: int, level: bytes, share: str
) -> None:
    status = camera_status(health(silent_s=silent_s, recent={"received": received, "lost_by_transport": 10}))

    assert status.level == level
    assert status.message.startswith(f"the transport loses {share} of the images")
    assert "fastdds.xml" in status.message
    assert "cameras.front.reliability to reliable" in status.message


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_a_camera_shows_its_rates_counters_and_stages_with_their_unit() -> None:
    status = camera_status(
        health(
            counters={"received": 70},
            recent={"received": 15, "published": 10},
            recent_s=0.5,
            stages_ms={"inference": {"p50": 14.216, "p95": 20.0}},
            last_rejection="cut",
            info_problem="another size",
        )
    )

    assert status.name == "camera front"
    assert values_of(status) == {
        "topic": "/image",
        "publishers": "1",
        "image rate (Hz)": "30.0",
        "result rate (Hz)": "20.0",
        "last image (ms ago)": "100",
        "received": "70",
        "inference p50 (ms)": "14.22",
        "inference p95 (ms)": "20.00",
        "last rejection": "cut",
        "camera_info": "another size",
    }


def test_an_engine_that_failed_shows_why() -> None:
    status = engine_status(EngineHealth("unconfigured", "tiny.onnx is cut"))

    assert (status.level, status.message) == (ERROR, "tiny.onnx is cut")


def test_a_missing_clock_is_told() -> None:
    status = engine_status(EngineHealth("active", clock_missing=True))

    assert (status.level, status.message) == (WARN, "active; use_sim_time is set, but nobody publishes /clock")


def test_parameters_that_nothing_reads_are_shown() -> None:
    assert values_of(engine_status(EngineHealth("active", ignored=["a", "b"])))["ignored parameters"] == "a; b"


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) == {}
    assert percentiles(range(101)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_the_process_has_memory() -> None:
    assert (resident_memory_mib() or 0) > 10


def test_the_hottest_zone_that_can_be_read_is_told(tmp_path: Path) -> None:
    for index, (name, temperature) in enumerate([("cpu-thermal", "45500"), ("tj-thermal", "51250"), ("gpu", "")]):
        zone = tmp_path / f"thermal_zone{index}"
        zone.mkdir()
        (zone / "type").write_text(f"{name}\n")
        (zone / "temp").write_text(temperature)

    assert hottest_zone(tmp_path) == ("tj-thermal", 51.25)
    assert hottest_zone(tmp_path / "thermal_zone2") is None


def test_statuses_bear_the_nodes_name(ros: RosGraph) -> None:
    reports = ros.listen(DiagnosticArray, "/diagnostics")
    publisher = DiagnosticsPublisher(ros.peer)

    def heard() -> bool:
        publisher.publish([engine_status(EngineHealth("active")), camera_status(health())])
        return bool(reports)

    ros.until(heard)

    assert [status.name for status in reports[0].status] == ["peer: engine", "peer: camera front"]


class Task(SimpleNamespace):
    """diagnostic_updater's DiagnosticStatusWrapper, as far as a task uses it."""

    def summary(self, level: bytes, message: str) -> None:
        self.level, self.message = level, message

    def add(self, key: str, value: str) -> None:
        self.values.append(KeyValue(key=key, value=value))


class Updater:
    """diagnostic_updater's Updater, which is not on PyPI; publishes into `published`."""

    def __init__(self, node: Any) -> None:
        self.timer = threading.Timer(1000, print)
        self.tasks: list[tuple[str, Callable[[Any], Any]]] = []
        self.published: list[list[Any]] = []

    def setHardwareID(self, hardware_id: str) -> None:  # noqa: N802
        self.hardware_id = hardware_id

    def add(self, name: str, function: Callable[[Any], Any]) -> None:
        self.tasks.append((name, function))

    def removeByName(self, name: str) -> bool:  # noqa: N802
        self.tasks = [task for task in self.tasks if task[0] != name]
        return True

    def force_update(self) -> None:
        self.published.append([function(Task(name=name, values=[])) for name, function in self.tasks])


def test_where_diagnostic_updater_is_installed_it_publishes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    updaters: list[Updater] = []
    monkeypatch.setattr(diagnostics, "Updater", lambda node: updaters.append(Updater(node)) or updaters[0])
    publisher = DiagnosticsPublisher(SimpleNamespace())
    engine, camera = engine_status(EngineHealth("active")), camera_status(health())

    publisher.publish([engine, camera])
    publisher.publish([engine])

    first, second = updaters[0].published
    assert {task.name: (task.level, task.message, task.values) for task in first} == {
        status.name: (status.level, status.message, list(status.values)) for status in (engine, camera)
    }
    assert [task.name for task in second] == ["engine"]
    assert updaters[0].hardware_id == "eseg_ros"
    assert updaters[0].timer.finished.is_set()
