"""How the cameras and the engine are, as diagnostic_msgs: what an operator reads when nothing comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from eseg_ros.node.machine import hottest_zone, resident_memory_mib
from eseg_ros.runtime.types import Runtime
from eseg_ros.runtime.worker import PERCENTILES

try:
    from diagnostic_updater import Updater
except ImportError:  # no part of ROS's base
    Updater = None

HARDWARE_ID = "eseg_ros"

STALE_AFTER_S = 2.0
"""A camera that has been silent for longer than this is reported."""

TOLERATED_DROPS = 0.1
"""Share of frames that may be dropped because newer ones came before it becomes a warning."""


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """What is known of one camera at the time of a report.

    Attributes:
        name: the camera's name.
        topic: resolved image topic.
        active: whether the node takes frames.
        idle: whether the images are unsubscribed because nobody listens.
        problem: what to do about a topic whose type or QoS does not fit, if it does not.
        silent_s: seconds since the last image arrived; None before the first.
        publishers: how many publish the topic.
        last_rejection: why the last rejected frame was, if one was.
        info_problem: why no calibration is published, if it cannot be.
        counters: frames since configure by what became of them; "received" counts them all, "lost_by_transport" those
            that never arrived.
        recent: the same since the report before.
        recent_s: seconds since the report before.
        stages_ms: milliseconds by stage and percentile, e.g. {"inference": {"p50": 14.2}}.
    """

    name: str
    topic: str
    active: bool = True
    idle: bool = False
    problem: str | None = None
    silent_s: float | None = None
    publishers: int = 1
    last_rejection: str | None = None
    info_problem: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    recent: Mapping[str, int] = field(default_factory=dict)
    recent_s: float = 1.0
    stages_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """What is known of the engine and of the node itself at the time of a report.

    Attributes:
        state: the node's lifecycle state, or "loading" while it configures.
        failure: why the last configure or the running engine failed, if it did.
        runtime: what runs; None while none is loaded.
        clock_missing: whether the node waits for /clock in vain.
        ignored: a sentence for each given parameter that nothing reads.
    """

    state: str
    failure: str | None = None
    runtime: Runtime | None = None
    clock_missing: bool = False
    ignored: Sequence[str] = ()


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """{"p50": ..., "p95": ..., "p99": ...}; empty if there are no values."""
    kept = list(values)
    if not kept:
        return {}
    found = np.percentile(kept, PERCENTILES)
    return {f"p{name}": float(value) for name, value in zip(PERCENTILES, found, strict=True)}


def camera_status(health: CameraHealth) -> DiagnosticStatus:
    """A camera's status: the first thing that is wrong with it, and every number."""
    level, message = _judge_camera(health)
    values = {"topic": health.topic, "publishers": str(health.publishers)}
    for key, name in (("received", "image rate (Hz)"), ("published", "result rate (Hz)")):
        values[name] = f"{health.recent.get(key, 0) / health.recent_s:.1f}"
    if health.silent_s is not None:
        values["last image (ms ago)"] = f"{health.silent_s * 1e3:.0f}"
    values |= {key: str(count) for key, count in health.counters.items()}
    for stage, times in health.stages_ms.items():
        values |= {f"{stage} {percentile} (ms)": f"{ms:.2f}" for percentile, ms in times.items()}
    if health.last_rejection:
        values["last rejection"] = health.last_rejection
    if health.info_problem:
        values["camera_info"] = health.info_problem
    return _status(level, f"camera {health.name}", message, values)


def engine_status(health: EngineHealth) -> DiagnosticStatus:
    """The engine's status."""
    values = {"state": health.state}
    if health.runtime is not None:
        manifest = health.runtime.manifest
        values |= {
            "engine": manifest.name,
            "model": manifest.model,
            "classes": str(len(manifest.classes)),
            "input": f"{manifest.input.width}x{manifest.input.height}",
            "precision": manifest.precision,
            "runtime": health.runtime.name,
            "device": health.runtime.device,
            "slots": str(health.runtime.slots),
        }
    if (memory := resident_memory_mib()) is not None:
        values["process memory (MiB)"] = f"{memory:.0f}"
    if zone := hottest_zone():
        values |= {"temperature (°C)": f"{zone[1]:.1f}", "hottest zone": zone[0]}
    if health.ignored:
        values["ignored parameters"] = "; ".join(health.ignored)
    level, message = DiagnosticStatus.OK, health.state
    if health.failure:
        level, message = DiagnosticStatus.ERROR, health.failure
    elif health.clock_missing:
        level, message = DiagnosticStatus.WARN, f"{health.state}; use_sim_time is set, but nobody publishes /clock"
    return _status(level, "engine", message, values)


class DiagnosticsPublisher:
    """Publishes statuses on /diagnostics: by diagnostic_updater where it is installed, else by itself.

    diagnostic_updater's own timer runs on the node's clock and stands still with simulated time, so it is cancelled.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._statuses: dict[str, DiagnosticStatus] = {}
        if Updater is not None:
            self._updater = Updater(node)
            self._updater.setHardwareID(HARDWARE_ID)
            self._updater.timer.cancel()
        else:
            self._updater = None
            self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, statuses: Sequence[DiagnosticStatus]) -> None:
        """Publish all statuses, whose names get the node's before them."""
        if self._updater is not None:
            self._update(self._updater, {status.name: status for status in statuses})
            return
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        name = self._node.get_fully_qualified_name().lstrip("/")
        for status in statuses:
            status.name = f"{name}: {status.name}"
        message.status = list(statuses)
        self._publisher.publish(message)

    def _update(self, updater: Any, statuses: dict[str, DiagnosticStatus]) -> None:
        gone, new = self._statuses.keys() - statuses.keys(), statuses.keys() - self._statuses.keys()
        self._statuses = statuses
        for name in gone:
            updater.removeByName(name)
        for name in sorted(new, reverse=True):
            updater.add(name, self._fill)
        updater.force_update()

    def _fill(self, task: Any) -> Any:
        """Give a task of diagnostic_updater the status of its name."""
        status = self._statuses[task.name]
        task.summary(status.level, status.message)
        for pair in status.values:
            task.add(pair.key, pair.value)
        return task


def _judge_camera(health: CameraHealth) -> tuple[bytes, str]:
    recent = health.recent
    received = recent.get("received", 0)
    if not health.active:
        return DiagnosticStatus.OK, "inactive"
    if health.problem:
        return DiagnosticStatus.ERROR, health.problem
    if health.idle:
        return DiagnosticStatus.OK, f"idle: nobody subscribes to an output of {health.name}, and lazy is set"
    if lost := recent.get("lost_by_transport", 0):
        level = DiagnosticStatus.WARN if received else DiagnosticStatus.ERROR
        return level, (
            f"the transport loses {_percent(lost, received + lost)} of the images: start the camera's driver with the "
            "shared-memory profile config/fastdds.xml, as docs/node.md says, or set "
            f"cameras.{health.name}.reliability to reliable"
        )
    if health.silent_s is None:
        nobody = "" if health.publishers else ", which nobody publishes"
        return DiagnosticStatus.WARN, f"waiting for the first frame on {health.topic}{nobody}"
    if health.silent_s > STALE_AFTER_S:
        nobody = "" if health.publishers else ", which nobody publishes any more"
        return DiagnosticStatus.ERROR, f"stale: no frame for {health.silent_s:.1f} s on {health.topic}{nobody}"
    return _judge_frames(health, received)


def _judge_frames(health: CameraHealth, received: int) -> tuple[bytes, str]:
    """What becomes of the frames that arrive."""
    rejected, stale, busy = (health.recent.get(key, 0) for key in ("rejected", "dropped_stale", "dropped_busy"))
    if rejected:
        published = health.recent.get("published", 0)
        level = DiagnosticStatus.WARN if published else DiagnosticStatus.ERROR
        return level, f"rejecting {_percent(rejected, rejected + published)}: {health.last_rejection}"
    if stale:
        remedy = "the camera's clock and the node's differ, or with a bag use_sim_time is not set"
        return DiagnosticStatus.WARN, f"dropping {_percent(stale, received)} by max_age_ms: {remedy}"
    if busy > TOLERATED_DROPS * received:
        return DiagnosticStatus.WARN, (
            f"dropping {_percent(busy, received)}: the engine is slower than the cameras; set "
            f"cameras.{health.name}.max_rate to what it can do, or take a smaller engine"
        )
    return DiagnosticStatus.OK, "ok"


def _percent(part: int, whole: int) -> str:
    return f"{min(1.0, part / max(whole, 1)):.0%}".replace("%", " %")


def _status(level: bytes, name: str, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=HARDWARE_ID, values=pairs)
