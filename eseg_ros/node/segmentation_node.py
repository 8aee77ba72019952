"""The lifecycle node `segmentation`: camera images in, masks out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError
from eseg_ros.node.camera import Camera
from eseg_ros.node.diagnostics import CameraHealth, camera_status, engine_status
from eseg_ros.node.messages import label_info_message
from eseg_ros.node.parameters import NodeParameters, Parameters
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Runtime
from eseg_ros.runtime.worker import Worker
from eseg_ros.share import find_engine

LOAD_POLL_S = 0.1
STOP_TIMEOUT_S = 1.0
_LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class SegmentationNode(LifecycleNode):
    """Moves images between the cameras and the worker, and lifecycle transitions to both.

    configure loads the engine, activate subscribes, deactivate unsubscribes, cleanup frees the engine. When the running
    engine fails, the node goes through error processing back to unconfigured, and configure mends it.

    Args:
        stopped: asked while an engine loads; once it is true, configure gives up.
        options: for rclpy's node, e.g. `namespace`, `context`, `parameter_overrides`.
    """

    def __init__(self, *, stopped: Callable[[], bool] = lambda: False, **options: Any) -> None:
        super().__init__("segmentation", **options)
        self._stopped = stopped
        self._settings = Parameters(self)  # rclpy has a `_parameters` of its own
        self._cameras: dict[str, Camera] = {}
        self._runtime: Runtime | None = None
        self._worker: Worker | None = None
        self._active = False
        self._failure: str | None = None  # for diagnostics, until the next configure
        self._failing = False  # the worker has failed, error processing has still to come
        self._worker_failed = self.create_guard_condition(self._on_worker_failed)
        self._label_info = self.create_publisher(String, "~/label_info", _LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._reported: dict[str, dict[str, int]] = {}
        # On a steady clock: the timer must also run while simulated time stands still.
        self._timer = self.create_timer(
            self._settings.diagnostics_period_s,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    @property
    def state(self) -> str:
        """The primary lifecycle state: "unconfigured", "inactive" or "active"."""
        if self._worker is None:
            return "unconfigured"
        return "active" if self._active else "inactive"

    def autostart(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine; FAILURE, with the reason logged and in the diagnostics, where it cannot be used."""
        self._failure = None
        try:
            self._configure(self._settings.load())
        except (EsegError, FileNotFoundError) as error:
            return self._refuse(str(error))
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(traceback.format_exc())
            return self._refuse(repr(error))
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras; ERROR, with the reason logged and in the diagnostics, where that is impossible."""
        assert self._worker is not None
        try:
            for camera in self._cameras.values():
                camera.start()
        except Exception as error:  # rclpy would swallow it without a word
            self._failure = f"cannot activate: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.ERROR
        self._worker.resume()
        self._active = True
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the engine stays loaded."""
        if self._failing:
            return TransitionCallbackReturn.ERROR
        assert self._worker is not None
        for camera in self._cameras.values():
            camera.stop()
        self._worker.pause()
        self._active = False
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and the cameras' endpoints."""
        if self._failing:
            return TransitionCallbackReturn.ERROR
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, whatever the state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; back to unconfigured, from where configure mends it."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Free everything, then the node."""
        self._release()
        super().destroy_node()

    def _configure(self, parameters: NodeParameters) -> None:
        engine = load_engine(find_engine(parameters.engine))
        runtime = create_runtime(engine, parameters.runtime, parameters.slots, parameters.threads)
        cameras = {camera.name: Camera(self, camera, self._on_frame) for camera in parameters.cameras}
        self._runtime, self._cameras = runtime, cameras
        worker = self._worker = Worker(
            runtime,
            tuple(cameras),
            on_result=lambda camera, result: cameras[camera].publish(result),
            on_drop=lambda camera, reason, frame, error: cameras[camera].reject(str(error)) if error else None,
            on_failure=lambda error: self._on_failure(worker, error),
            outputs=lambda camera: cameras[camera].outputs(self._settings.live),
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        worker.start()
        while not worker.wait_loaded(LOAD_POLL_S):
            if self._stopped():
                raise EsegError("stopped while the engine was loading")
        self._settings.locked = True
        self._label_info.publish(label_info_message(runtime.manifest))
        self.get_logger().info(
            f"engine {engine.manifest.name} ({engine.manifest.precision}) is ready: {runtime.name}, {runtime.device}; "
            f"cameras: {', '.join(f'{camera.name} from {camera.topic}' for camera in cameras.values())}"
        )

    def _refuse(self, reason: str) -> TransitionCallbackReturn:
        """End a configure that cannot succeed."""
        self.get_logger().error(f"cannot configure: {reason}")
        self._release()
        self._failure = reason
        return TransitionCallbackReturn.FAILURE

    def _release(self) -> None:
        """Stop the worker, free the engine, end the cameras; harmless where nothing is held."""
        self._active = self._failing = False
        if self._worker is not None:
            self._worker.stop(STOP_TIMEOUT_S)
        for camera in self._cameras.values():
            camera.close()
        self._cameras = {}
        self._worker = self._runtime = None
        self._reported.clear()
        self._settings.locked = False

    def _on_frame(self, camera: str, frame: Frame) -> None:
        if self._worker is not None:
            self._worker.max_age_ns = int(self._settings.live.max_age_ms * 1e6)
            self._worker.offer(camera, frame)

    def _on_failure(self, worker: Worker, error: Exception) -> None:
        """In the worker's thread: have the executor take the node through error processing."""
        if worker is self._worker:
            self._failure = str(error)
            self._failing = True
            self._worker_failed.trigger()

    def _on_worker_failed(self) -> None:
        if not self._failing:
            return
        self.get_logger().error(
            f"the engine failed: {self._failure}. The node is unconfigured now; load the engine again: "
            f"ros2 lifecycle set {self.get_fully_qualified_name()} configure"
        )
        if self._active:
            self.trigger_deactivate()
        else:
            self.trigger_cleanup()

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name().lstrip("/")
        message.status = [engine_status(name, self.state, self._failure, self._runtime)]
        if self._worker is not None:
            for camera in self._cameras.values():
                message.status.append(camera_status(name, self._health(camera, self._worker)))
        self._diagnostics.publish(message)

    def _health(self, camera: Camera, worker: Worker) -> CameraHealth:
        counters = asdict(worker.counters(camera.name))
        before = self._reported.get(camera.name, {})
        self._reported[camera.name] = counters
        problem = camera.type_problem() if self._active else None
        if problem:
            camera.warn(f"{problem}; no frame is taken until then")
        return CameraHealth(
            name=camera.name,
            topic=camera.topic,
            active=self._active,
            type_problem=problem,
            silent_s=None if camera.last_frame_s is None else time.monotonic() - camera.last_frame_s,
            last_rejection=camera.last_rejection,
            counters=counters,
            recent={key: count - before.get(key, 0) for key, count in counters.items()},
            stages_ms=worker.stages_ms(camera.name),
        )
