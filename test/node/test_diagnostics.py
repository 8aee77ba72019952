from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from eseg_ros.node.diagnostics import CameraHealth, camera_status, engine_status

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def health(**values: object) -> CameraHealth:
    return CameraHealth(**({"name": "front", "topic": "/image", "silent_s": 0.1} | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("camera", "level", "message"),
    [
        (health(active=False), OK, "inactive"),
        (health(silent_s=None), WARN, "waiting for the first frame on /image"),
        (health(silent_s=None, type_problem="set transport"), ERROR, "set transport"),
        (health(silent_s=3.25), ERROR, "stale: no frame on /image for 3.2 s"),
        (health(recent={"received": 10}), OK, "ok"),
        (health(recent={"received": 10, "dropped_busy": 1}), OK, "ok"),
        (
            health(recent={"received": 10, "dropped_busy": 4}),
            WARN,
            "dropping 40 %: the engine is slower than the cameras",
        ),
        (
            health(recent={"received": 10, "rejected": 3}, last_rejection="cut"),
            WARN,
            "rejecting 30 %: cut",
        ),
        (health(recent={"received": 10, "rejected": 10}, last_rejection="cut"), ERROR, "rejecting 100 %: cut"),
    ],
)
def test_a_camera_is_judged_by_the_first_thing_that_is_wrong(camera: CameraHealth, level: bytes, message: str) -> None:
    status = camera_status("segmentation", camera)

    assert (status.level, status.message) == (level, message)


def test_frames_that_are_too_old_are_told_with_the_remedy() -> None:
    status = camera_status("segmentation", health(recent={"received": 10, "dropped_stale": 10}))

    assert status.level == WARN
    assert status.message.startswith("dropping 100 % as older than max_age_ms")
    assert "use_sim_time" in status.message


def test_a_camera_shows_its_counters_and_its_stages_with_their_unit() -> None:
    status = camera_status(
        "segmentation", health(counters={"received": 7}, stages_ms={"inference": {"p50": 14.216, "p95": 20.0}})
    )

    values = {pair.key: pair.value for pair in status.values}
    assert status.name == "segmentation: camera front"
    assert values == {"topic": "/image", "received": "7", "inference p50 (ms)": "14.22", "inference p95 (ms)": "20.00"}


def test_an_engine_that_failed_shows_why() -> None:
    status = engine_status("segmentation", "unconfigured", "tiny.onnx is cut", None)

    assert (status.level, status.message) == (ERROR, "tiny.onnx is cut")
