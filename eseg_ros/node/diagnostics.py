"""How the cameras and the engine are, as diagnostic_msgs: what an operator reads when nothing comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from eseg_ros.runtime.types import Runtime

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
        type_problem: what to do about a topic that carries other messages, if it does.
        silent_s: seconds since the last image arrived; None before the first.
        last_rejection: why the last rejected frame was, if one was.
        counters: frames since configure by what became of them; "received" counts them all.
        recent: the same since the report before.
        stages_ms: milliseconds by stage and percentile, e.g. {"inference": {"p50": 14.2}}.
    """

    name: str
    topic: str
    active: bool = True
    type_problem: str | None = None
    silent_s: float | None = None
    last_rejection: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    recent: Mapping[str, int] = field(default_factory=dict)
    stages_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def camera_status(node_name: str, health: CameraHealth) -> DiagnosticStatus:
    """A camera's status: the first thing that is wrong with it, and every number."""
    level, message = _judge_camera(health)
    values = {"topic": health.topic} | {key: str(count) for key, count in health.counters.items()}
    for stage, percentiles in health.stages_ms.items():
        values |= {f"{stage} {percentile} (ms)": f"{ms:.2f}" for percentile, ms in percentiles.items()}
    if health.last_rejection:
        values["last rejection"] = health.last_rejection
    return _status(level, f"{node_name}: camera {health.name}", message, values)


def engine_status(node_name: str, state: str, failure: str | None, runtime: Runtime | None) -> DiagnosticStatus:
    """The engine's status.

    Args:
        node_name: begins the status's name.
        state: the node's lifecycle state.
        failure: why the last configure or the running engine failed, if it did.
        runtime: what runs; None while none is loaded.
    """
    values = {"state": state}
    if runtime is not None:
        manifest = runtime.manifest
        values |= {
            "engine": manifest.name,
            "model": manifest.model,
            "classes": str(len(manifest.classes)),
            "input": f"{manifest.input.width}x{manifest.input.height}",
            "precision": manifest.precision,
            "runtime": runtime.name,
            "device": runtime.device,
            "slots": str(runtime.slots),
        }
    level = DiagnosticStatus.ERROR if failure else DiagnosticStatus.OK
    return _status(level, f"{node_name}: engine", failure or state, values)


def _judge_camera(health: CameraHealth) -> tuple[bytes, str]:
    received = health.recent.get("received", 0)
    rejected, stale, busy = (health.recent.get(key, 0) for key in ("rejected", "dropped_stale", "dropped_busy"))
    if not health.active:
        return DiagnosticStatus.OK, "inactive"
    if health.type_problem:
        return DiagnosticStatus.ERROR, health.type_problem
    if health.silent_s is None:
        return DiagnosticStatus.WARN, f"waiting for the first frame on {health.topic}"
    if health.silent_s > STALE_AFTER_S:
        return DiagnosticStatus.ERROR, f"stale: no frame on {health.topic} for {health.silent_s:.1f} s"
    if rejected:
        level = DiagnosticStatus.ERROR if rejected >= received else DiagnosticStatus.WARN
        return level, f"rejecting {_percent(rejected, received)}: {health.last_rejection}"
    if stale:
        remedy = "the camera's clock and the node's differ, or with a bag use_sim_time is not set"
        return DiagnosticStatus.WARN, f"dropping {_percent(stale, received)} as older than max_age_ms: {remedy}"
    if busy > TOLERATED_DROPS * received:
        return DiagnosticStatus.WARN, f"dropping {_percent(busy, received)}: the engine is slower than the cameras"
    return DiagnosticStatus.OK, "ok"


def _percent(part: int, whole: int) -> str:
    return f"{min(1.0, part / max(whole, 1)):.0%}".replace("%", " %")


def _status(level: bytes, name: str, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id="eseg_ros", values=pairs)
