"""One camera of the node: its subscriptions, which come and go, and what is known of how its images arrive."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from eseg_ros.node.camera_info import CameraInfoError
from eseg_ros.node.messages import frame_from_compressed, frame_from_image, stamp_to_ns
from eseg_ros.node.outputs import CameraOutputs
from eseg_ros.node.parameters import CameraParameters, given_parameters
from eseg_ros.runtime.types import Frame, Result

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

WARNING_PERIOD_S = 5.0
CAMERA_INFO_DEPTH = 5
REMEMBERED_INFOS = 16
"""Calibrations kept to be matched to images: more than arrive while a frame is under way."""
REMEMBERED_RESULTS = 512
"""Results that the statistics look back on."""

_TYPES: dict[str, Any] = {"raw": Image, "compressed": CompressedImage}
_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class RateLimiter:
    """Admits at most so many frames a second, one in each period, so that a jittering camera still gives the rate."""

    def __init__(self) -> None:
        self._period_began_s = 0.0

    def admits(self, now_s: float, rate_hz: float) -> bool:
        """Whether a frame that arrives now is taken; `rate_hz` 0 takes all."""
        if rate_hz <= 0:
            return True
        period_s = 1 / rate_hz
        due_s = self._period_began_s + period_s
        if now_s < due_s:
            return False
        self._period_began_s = due_s if now_s < due_s + period_s else now_s
        return True


class Camera:
    """A camera's subscriptions, and its `outputs`, which live as long as the camera.

    `publish` is called in the worker's thread, everything else in the executor's.

    Args:
        node: owns the endpoints.
        parameters: of this camera.
        on_frame: takes (this camera, frame), in the executor's thread; must return at once.

    Attributes:
        topic: the image topic, resolved and remapped.
        info_topic: the calibration's.
        subscribed: whether images are taken at the moment.
        last_frame_s: steady time at which the last image arrived; None before the first since it subscribed.
        last_rejection: why the last rejected frame was; None while none was.
        info_problem: why the calibration cannot be published; None if it can.
        dropped_rate: frames left out because of `max_rate`.
        dropped_ahead: frames left out because their stamp lay in the future.
        lost: images that the middleware says it lost on the way.
        publish_ms: how long publishing the last results took, milliseconds.
        ages_ms: how old their frames were by then, by the node's clock, milliseconds.
    """

    def __init__(self, node: Node, parameters: CameraParameters, on_frame: Callable[[Camera, Frame], None]) -> None:
        self.name = parameters.name
        self.topic: str = node.resolve_topic_name(parameters.image_topic)
        self.info_topic: str = (
            node.resolve_topic_name(parameters.camera_info_topic)
            if parameters.camera_info_topic
            else camera_info_beside(self.topic)
        )
        self.outputs = CameraOutputs(node, parameters.name)
        self.last_frame_s: float | None = None
        self.last_rejection: str | None = None
        self.info_problem: str | None = None
        self.dropped_rate = 0
        self.dropped_ahead = 0
        self.lost = 0
        self.publish_ms: deque[float] = deque(maxlen=REMEMBERED_RESULTS)
        self.ages_ms: deque[float] = deque(maxlen=REMEMBERED_RESULTS)
        self._node = node
        self._parameters = parameters
        self._on_frame = on_frame
        self._message_type = _TYPES[parameters.transport]
        self._subscriptions: list[Subscription] = []
        self._infos: deque[tuple[int, CameraInfo]] = deque(maxlen=REMEMBERED_INFOS)
        self._limiter = RateLimiter()
        # Each camera's own logger: rclpy throttles by logger and line, and one camera must not silence another.
        self._logger = node.get_logger().get_child(self.name)

    @property
    def subscribed(self) -> bool:
        """Whether images are taken at the moment."""
        return bool(self._subscriptions)

    def follow(self, *, lazy: bool) -> None:
        """Subscribe; or, if `lazy`, be subscribed just as long as somebody is subscribed to an output."""
        wanted = not lazy or self.outputs.have_subscribers()
        if wanted and not self.subscribed:
            self._subscribe()
        elif not wanted:
            self.stop()

    def stop(self) -> None:
        """End the subscriptions; harmless if there are none."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self.last_frame_s = None

    def close(self) -> None:
        """End everything. The worker must be stopped."""
        self.stop()
        self.outputs.close()

    def admits(self, max_rate: float) -> bool:
        """Whether the frame that has just arrived keeps to `max_rate`, Hz; counts it if not."""
        admitted = self._limiter.admits(self.last_frame_s or 0.0, max_rate)
        self.dropped_rate += not admitted
        return admitted

    def publish(self, result: Result, jpeg_quality: int) -> None:
        """Publish a result and the calibration that belongs to it."""
        began_s = time.monotonic()
        self.outputs.publish(result, jpeg_quality)
        if (info := self._info_of(result.stamp_ns)) is not None:
            try:
                self.outputs.publish_camera_info(info, result)
                self.info_problem = None
            except CameraInfoError as error:
                self.info_problem = str(error)
                self.warn(f"{error}; no camera_info is published")
        self.publish_ms.append((time.monotonic() - began_s) * 1e3)
        self.ages_ms.append((self._node.get_clock().now().nanoseconds - result.stamp_ns) / 1e6)

    def forget_times(self) -> None:
        """The clock has jumped: ages and calibrations of before say nothing any more."""
        self.ages_ms.clear()
        self._infos.clear()

    def reject(self, reason: str) -> None:
        """Remember and log why a frame cannot be used."""
        self.last_rejection = reason
        self.warn(f"{reason}; this frame is dropped")

    def warn(self, text: str) -> None:
        """Log a warning of this camera, at most one every few seconds."""
        self._logger.warning(text, throttle_duration_sec=WARNING_PERIOD_S, throttle_time_source_type=_STEADY)

    def topic_problem(self) -> str | None:
        """What to do if the image topic is published, but by nobody whose type and QoS fit, else None."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        expected = f"sensor_msgs/msg/{self._message_type.__name__}"
        fitting = [publisher for publisher in publishers if publisher.topic_type == expected]
        if publishers and not fitting:
            return self._type_problem({publisher.topic_type for publisher in publishers}, expected)
        problems = [self._qos_problem(publisher) for publisher in fitting] if self.subscribed else []
        return problems[0] if problems and all(problems) else None

    def _type_problem(self, found: set[str], expected: str) -> str:
        other = next((name for name, kind in _TYPES.items() if f"sensor_msgs/msg/{kind.__name__}" in found), None)
        remedy = f"transport to {other}" if other else "image_topic to a topic of images"
        return f"{self.topic} carries {', '.join(sorted(found))}, expected {expected}: set cameras.{self.name}.{remedy}"

    def _qos_problem(self, publisher: Any) -> str | None:
        compatibility, reason = qos_check_compatible(publisher.qos_profile, self._subscriptions[0].qos_profile)
        if compatibility != QoSCompatibility.ERROR:
            return None
        name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        return (
            f"incompatible QoS with publisher {name} of {self.topic} ({reason.removeprefix('ERROR: ').rstrip('; ')}): "
            f"set cameras.{self.name}.reliability to best_effort"
        )

    def _subscribe(self) -> None:
        given = given_parameters(self._node)
        prefix = f"qos_overrides.{self.topic}.subscription."
        reliability = ReliabilityPolicy[self._parameters.reliability.upper()]
        options: dict[str, Any] = {
            "callback": self._on_message,
            "qos_profile": QoSProfile(
                history=HistoryPolicy.KEEP_LAST, depth=self._parameters.depth, reliability=reliability
            ),
            # A policy declared here would keep its first value, whatever `reliability` and `depth` are set to later.
            "qos_overriding_options": QoSOverridingOptions(
                [policy for policy in _OVERRIDABLE if prefix + policy.name.lower() in given]
            ),
        }
        try:
            events = SubscriptionEventCallbacks(message_lost=self._on_message_lost)
            image = self._node.create_subscription(self._message_type, self.topic, event_callbacks=events, **options)
        except UnsupportedEventTypeError:
            image = self._node.create_subscription(self._message_type, self.topic, **options)
        info = self._node.create_subscription(
            CameraInfo,
            self.info_topic,
            lambda message: self._infos.append((stamp_to_ns(message.header.stamp), message)),
            QoSProfile(depth=CAMERA_INFO_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT),
        )
        self._subscriptions = [image, info]

    def _on_message(self, message: Any) -> None:
        self.last_frame_s = time.monotonic()
        raw = self._message_type is Image
        self._on_frame(self, frame_from_image(message) if raw else frame_from_compressed(message))

    def _on_message_lost(self, event: Any) -> None:
        self.lost += event.total_count_change

    def _info_of(self, stamp_ns: int) -> CameraInfo | None:
        """The calibration with the frame's stamp, else the last one."""
        infos = tuple(self._infos)  # the executor's thread goes on adding
        return next((info for stamp, info in infos if stamp == stamp_ns), infos[-1][1] if infos else None)


def camera_info_beside(image_topic: str) -> str:
    """The topic of the calibration that belongs to an image topic, by image_transport's rule."""
    return f"{image_topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
