"""The lifecycle node `segmentation`: camera images in, masks out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError
from eseg_ros.labels import Relabeling, relabeling
from eseg_ros.node.camera import Camera
from eseg_ros.node.cv_bridge_codec import find_converter
from eseg_ros.node.labels import LabelPublishers
from eseg_ros.node.parameters import NodeParameters, ParameterError, Parameters
from eseg_ros.node.reporter import Reporter
from eseg_ros.node.requests import RequestsDuringTransition
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime
from eseg_ros.runtime.worker import Worker
from eseg_ros.share import find_engine

LOAD_POLL_S = 0.1
STOP_TIMEOUT_S = 0.5
FOLLOW_PERIOD_S = 0.2
"""How soon the node takes notice of those who subscribe to its outputs or leave."""
JUMP_BACK_S = 0.1
"""The clock may go back by so much without having jumped."""
LEAST_LEAD_NS = 1_000_000_000
"""A stamp may always be ahead of the clock by so much: /clock comes in steps."""


class SegmentationNode(LifecycleNode):
    """Moves images between the cameras and the worker, and lifecycle transitions to both.

    configure loads the engine, activate subscribes, deactivate unsubscribes, cleanup frees the engine. When the running
    engine fails, the node goes through error processing back to unconfigured, and configure mends it.

    Args:
        stopped: asked while an engine loads; once it is true, configure gives up.
        options: for rclpy's node, e.g. `namespace`, `context`, `parameter_overrides`.

    Attributes:
        state: "unconfigured", "loading", "inactive", "active" or "finalized".
    """

    def __init__(self, *, stopped: Callable[[], bool] = lambda: False, **options: Any) -> None:
        super().__init__("segmentation", **options)
        self.state = "unconfigured"
        self._stopped = stopped
        self._settings = Parameters(self)  # rclpy has a `_parameters` of its own
        self._cameras: dict[str, Camera] = {}
        self._relabeling: Relabeling | None = None
        self._runtime: Runtime | None = None
        self._worker: Worker | None = None
        self._ignored: list[str] = []
        self._failure: str | None = None  # for diagnostics, until the next configure
        self._failing = False  # something has failed, error processing has still to come
        self._failed = self.create_guard_condition(self._process_failure)
        self._requests = RequestsDuringTransition(self)
        self._labels = LabelPublishers(self)
        self._reporter = Reporter(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # timers must also run while simulated time stands still
        self.create_timer(FOLLOW_PERIOD_S, self._follow_changes, clock=steady)
        self._report_timer = self.create_timer(self._settings.live.diagnostics_period_s, self._report, clock=steady)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(seconds=-JUMP_BACK_S), on_clock_change=False),
            post_callback=self._on_time_jump,
        )

    def autostart(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine; FAILURE, with the reason logged and in the diagnostics, where it cannot be used."""
        self._failure = None
        self.state = "loading"
        try:
            self._configure(self._settings.load())
        except (EsegError, FileNotFoundError) as error:
            return self._refuse(str(error))
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(traceback.format_exc())
            return self._refuse(repr(error))
        self.state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras; ERROR, with the reason logged and in the diagnostics, where that is impossible."""
        assert self._worker is not None
        try:
            for camera in self._cameras.values():
                camera.follow(lazy=self._settings.live.lazy)
        except Exception as error:  # rclpy would swallow it without a word
            self._failure = f"cannot activate: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.ERROR
        self._worker.resume()
        self.state = "active"
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the engine stays loaded."""
        if self._failing:
            return TransitionCallbackReturn.ERROR
        assert self._worker is not None
        for camera in self._cameras.values():
            camera.stop()
        self._worker.pause()
        self.state = "inactive"
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
        self.state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; back to unconfigured, from where configure mends it."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Free everything, then the node."""
        self._release()
        self._jumps.unregister()
        super().destroy_node()

    def _configure(self, parameters: NodeParameters) -> None:
        self._ignored = self._settings.unknown()
        for complaint in self._ignored:
            self.get_logger().warning(complaint)
        self._settings.locked = True
        engine = load_engine(find_engine(parameters.engine))
        if parameters.classes_map:
            try:
                self._relabeling = relabeling(engine.manifest.classes, parameters.classes_map)
            except ValueError as error:
                raise ParameterError(f"classes.map does not fit: {error}") from error
        runtime = create_runtime(
            engine, parameters.runtime, parameters.slots, parameters.threads, parameters.cuda, parameters.auto_build
        )
        self._cameras = {camera.name: Camera(self, camera, self._on_frame) for camera in parameters.cameras}
        self._load(runtime)
        self._publish_labels()
        self.get_logger().info(
            f"engine {engine.manifest.name} ({engine.manifest.precision}) is ready: {runtime.name}, {runtime.device}; "
            f"cameras: {', '.join(f'{camera.name} from {camera.topic}' for camera in self._cameras.values())}"
        )

    def _load(self, runtime: Runtime) -> None:
        """Start a worker and wait until it has loaded the engine; diagnostics and services go on meanwhile."""
        self._runtime = runtime
        worker = self._worker = Worker(
            runtime,
            tuple(self._cameras),
            on_result=self._on_result,
            on_drop=self._on_drop,
            on_failure=lambda error: self._on_failure(worker, error),
            outputs=self._outputs,
            now_ns=self._now_ns,
            convert=find_converter(),
        )
        worker.start()
        next_report_s = time.monotonic()
        while not worker.wait_loaded(LOAD_POLL_S):
            if self._requests.serve() or self._stopped():
                raise EsegError("shut down while the engine was loading")
            if time.monotonic() >= next_report_s:
                next_report_s = time.monotonic() + self._settings.live.diagnostics_period_s
                self._report()

    def _refuse(self, reason: str) -> TransitionCallbackReturn:
        """End a configure that cannot succeed."""
        self.get_logger().error(f"cannot configure: {reason}")
        self._release()
        self._failure = reason
        return TransitionCallbackReturn.FAILURE

    def _release(self) -> None:
        """Stop the worker, free the engine, end the cameras; harmless where nothing is held."""
        loading = self.state == "loading"
        self.state = "unconfigured"
        for camera in self._cameras.values():
            camera.stop()
        # What is loading cannot be interrupted; it is freed when it has loaded.
        if self._worker is not None and not self._worker.stop(0 if loading else STOP_TIMEOUT_S):
            self.get_logger().warning("the engine is still busy; it is freed as soon as it answers")
        for camera in self._cameras.values():
            camera.close()
        self._cameras = {}
        self._relabeling = None
        self._worker = self._runtime = None
        self._failing = False
        self._reporter.forget()
        self._settings.locked = False

    def _on_frame(self, camera: Camera, frame: Frame) -> None:
        """In the executor's thread: hand a frame over, if it keeps to the limits."""
        live = self._settings.live_camera(camera.name)
        if self._worker is None or not camera.admits(live.max_rate):
            return
        max_age_ns = int(live.max_age_ms * 1e6)
        if max_age_ns and self._is_ahead(frame, max(max_age_ns, LEAST_LEAD_NS)):
            camera.dropped_ahead += 1
            return
        self._worker.max_age_ns = max_age_ns
        self._worker.max_pixels = int(live.max_megapixels * 1e6)
        self._worker.offer(camera.name, frame)

    def _is_ahead(self, frame: Frame, lead_ns: int) -> bool:
        """Whether the stamp is no time of the node's clock: taken before the clock jumped back, or by a wrong clock.

        Nothing is known before simulated time has begun.
        """
        now_ns = self._now_ns()
        return 0 < now_ns < frame.stamp_ns - lead_ns

    def _outputs(self, camera: str) -> Outputs:
        """In the worker's thread: what the camera's next result must hold."""
        return self._cameras[camera].outputs.requested(self._settings.live_camera(camera), self._relabeling)

    def _on_result(self, camera: str, result: Result) -> None:
        """In the worker's thread."""
        self._cameras[camera].publish(result, self._settings.live.jpeg_quality)

    def _on_drop(self, camera: str, reason: str, frame: Frame, error: Exception | None) -> None:
        """In the worker's thread or the executor's."""
        if error is not None:
            self._cameras[camera].reject(str(error))

    def _on_failure(self, worker: Worker, error: Exception) -> None:
        """In the worker's thread."""
        if worker is self._worker:
            self._fail(f"the engine failed: {error}")

    def _fail(self, reason: str) -> None:
        """In any thread: have the executor take the node through error processing."""
        self._failure = reason
        self._failing = True
        self._failed.trigger()

    def _process_failure(self) -> None:
        if not self._failing or self._worker is None:
            return
        self.get_logger().error(
            f"{self._failure}. The node is unconfigured now; configure it again: "
            f"ros2 lifecycle set {self.get_fully_qualified_name()} configure"
        )
        if self.state == "active":
            self.trigger_deactivate()
        else:
            self.trigger_cleanup()

    def _on_time_jump(self, jump: TimeJump) -> None:
        """The clock went back, as with a bag that begins anew: what was waiting belongs to the time before."""
        self.get_logger().info(f"the time jumped back by {-jump.delta.nanoseconds / 1e9:.1f} s")
        for camera in self._cameras.values():
            camera.forget_times()
        if self._worker is not None and self.state == "active":
            self._worker.pause()
            self._worker.resume()

    def _follow_changes(self) -> None:
        """Be subscribed where somebody listens; keep up with live parameters that are not read frame by frame."""
        period_ns = int(self._settings.live.diagnostics_period_s * 1e9)
        if self._report_timer.timer_period_ns != period_ns:
            self._report_timer.timer_period_ns = period_ns
            self._report_timer.reset()
        if self.state != "active":
            return
        self._publish_labels()
        try:
            for camera in self._cameras.values():
                camera.follow(lazy=self._settings.live.lazy)
        except Exception as error:  # e.g. qos_overrides that are none
            self._fail(f"cannot subscribe: {error}")

    def _publish_labels(self) -> None:
        assert self._runtime is not None
        manifest = self._runtime.manifest
        classes = self._relabeling.classes if self._relabeling else manifest.classes
        self._labels.publish(manifest.name, classes, self._settings.live.confidence_threshold)

    def _report(self) -> None:
        self._reporter.report(
            self.state, self._failure, self._runtime, self._worker, self._cameras.values(), self._ignored
        )

    def _now_ns(self) -> int:
        """The node's clock: what ages are measured on."""
        return int(self.get_clock().now().nanoseconds)
