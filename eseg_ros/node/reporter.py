"""Collects how the node is and publishes it, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rclpy.node import Node

from eseg_ros.node.camera import Camera
from eseg_ros.node.diagnostics import (
    CameraHealth,
    DiagnosticsPublisher,
    EngineHealth,
    camera_status,
    engine_status,
    percentiles,
)
from eseg_ros.runtime.types import Runtime
from eseg_ros.runtime.worker import Worker


class Reporter:
    """Publishes diagnostics, and remembers the counters of the last report: rates and shares are those since then."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = DiagnosticsPublisher(node)
        self._counters: dict[str, dict[str, int]] = {}
        self._reported_s = time.monotonic()

    def forget(self) -> None:
        """The cameras are gone, and their counters with them."""
        self._counters.clear()

    def report(
        self,
        state: str,
        failure: str | None,
        runtime: Runtime | None,
        worker: Worker | None,
        cameras: Iterable[Camera],
        ignored: Sequence[str],
    ) -> None:
        """Publish a status of the engine and one a camera.

        Args:
            state: the node's lifecycle state.
            failure: why it is not what it should be.
            runtime: the engine that is loaded or loading.
            worker: what runs it.
            cameras: all of them.
            ignored: what is to be said of parameters that nothing reads.
        """
        now_s = time.monotonic()
        engine = EngineHealth(state, failure, runtime, self._clock_is_missing(), ignored)
        statuses = [engine_status(engine)]
        if worker is not None:
            elapsed_s = max(now_s - self._reported_s, 1e-3)
            statuses += [camera_status(self._health(camera, worker, state, now_s, elapsed_s)) for camera in cameras]
        self._reported_s = now_s
        self._publisher.publish(statuses)

    def _health(self, camera: Camera, worker: Worker, state: str, now_s: float, elapsed_s: float) -> CameraHealth:
        counters = _counters(camera, worker)
        before = self._counters.get(camera.name, {})
        self._counters[camera.name] = counters
        active = state == "active"
        problem = camera.topic_problem() if active else None
        if problem:
            camera.warn(f"{problem}; no frame is taken until then")
        return CameraHealth(
            name=camera.name,
            topic=camera.topic,
            active=active,
            idle=not camera.subscribed,
            problem=problem,
            silent_s=None if camera.last_frame_s is None else now_s - camera.last_frame_s,
            publishers=self._node.count_publishers(camera.topic),
            last_rejection=camera.last_rejection,
            info_problem=camera.info_problem,
            counters=counters,
            recent={key: count - before.get(key, 0) for key, count in counters.items()},
            recent_s=elapsed_s,
            stages_ms={
                **worker.stages_ms(camera.name),
                "publish": percentiles(tuple(camera.publish_ms)),
                "age": percentiles(tuple(camera.ages_ms)),
            },
        )

    def _clock_is_missing(self) -> bool:
        simulated = self._node.get_parameter("use_sim_time").value
        return bool(simulated) and not self._node.count_publishers("/clock")


def _counters(camera: Camera, worker: Worker) -> dict[str, int]:
    """The worker's counters and, added to them, the frames that never came to it."""
    counters = asdict(worker.counters(camera.name))
    kept_back = {"dropped_rate": camera.dropped_rate, "dropped_stale": camera.dropped_ahead}
    for key, count in kept_back.items():
        counters[key] = counters.get(key, 0) + count
        counters["received"] += count
    counters["lost_by_transport"] = camera.lost
    return counters
