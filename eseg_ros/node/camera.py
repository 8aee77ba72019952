"""One camera of the node: its subscription on the way in, its publishers on the way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from eseg_ros.node.messages import frame_from_compressed, frame_from_image, image_message
from eseg_ros.node.parameters import CameraParameters, LiveParameters
from eseg_ros.runtime.types import Frame, Outputs, Result

QUEUE_DEPTH = 5
WARNING_PERIOD_S = 5.0
ENCODINGS = {"mask": "mono8", "color_mask": "bgr8", "overlay": "bgr8", "confidence": "mono8"}
"""What a camera publishes under `~/NAME/` and how it is encoded; the names are those of `Result`'s attributes."""

_TYPES: dict[str, Any] = {"raw": Image, "compressed": CompressedImage}
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class Camera:
    """A camera's endpoints. The publishers live as long as the camera, the subscription from `start` to `stop`.

    `outputs` and `publish` are called in the worker's thread, everything else in the executor's.

    Args:
        node: owns the endpoints.
        parameters: of this camera.
        on_frame: takes (camera name, frame), in the executor's thread; must return at once.

    Attributes:
        topic: the image topic, resolved and remapped.
        last_frame_s: steady time at which the last image arrived; None before the first.
        last_rejection: why the last rejected frame was; None while none was.
    """

    def __init__(self, node: Node, parameters: CameraParameters, on_frame: Callable[[str, Frame], None]) -> None:
        self.name = parameters.name
        self.topic: str = node.resolve_topic_name(parameters.image_topic)
        self.last_frame_s: float | None = None
        self.last_rejection: str | None = None
        self._node = node
        self._on_frame = on_frame
        self._subscription: Subscription | None = None
        self._message_type = _TYPES[parameters.transport]
        # Each camera's own logger: rclpy throttles by logger and line, and one camera must not silence another.
        self._logger = node.get_logger().get_child(self.name)
        self._publishers: dict[str, Publisher] = {
            output: node.create_publisher(
                Image,
                f"~/{self.name}/{output}",
                # Reliable matches best-effort subscribers too.
                QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for output in ENCODINGS
        }

    def start(self) -> None:
        """Subscribe to the image topic."""
        self.last_frame_s = None
        self._subscription = self._node.create_subscription(
            self._message_type,
            self.topic,
            self._on_message,
            # SensorData's values in a profile of our own: the overrides are written into the object.
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def stop(self) -> None:
        """End the subscription; harmless if there is none."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def close(self) -> None:
        """End everything. The worker must be stopped."""
        self.stop()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def outputs(self, live: LiveParameters) -> Outputs:
        """What the next frame must yield: what somebody is subscribed to."""
        return Outputs(
            color_mask=self._is_wanted("color_mask"),
            overlay=self._is_wanted("overlay"),
            confidence=self._is_wanted("confidence"),
            overlay_alpha=live.overlay_alpha,
            confidence_threshold=live.confidence_threshold,
        )

    def publish(self, result: Result) -> None:
        """Publish what the result holds and somebody is subscribed to, with the frame's stamp and frame_id."""
        for output, encoding in ENCODINGS.items():
            pixels = getattr(result, output)
            if pixels is not None and self._is_wanted(output):
                message = image_message(pixels, encoding, result.stamp_ns, result.frame_id)
                self._publishers[output].publish(message)

    def reject(self, reason: str) -> None:
        """Remember and log why a frame cannot be used."""
        self.last_rejection = reason
        self.warn(f"{reason}; this frame is dropped")

    def warn(self, text: str) -> None:
        """Log a warning of this camera, at most one every few seconds."""
        self._logger.warning(text, throttle_duration_sec=WARNING_PERIOD_S, throttle_time_source_type=_STEADY)

    def type_problem(self) -> str | None:
        """What to do if the image topic is published, but only as types that this camera does not take, else None."""
        expected = f"sensor_msgs/msg/{self._message_type.__name__}"
        found = {info.topic_type for info in self._node.get_publishers_info_by_topic(self.topic)}
        if not found or expected in found:
            return None
        other = next((name for name, kind in _TYPES.items() if f"sensor_msgs/msg/{kind.__name__}" in found), None)
        remedy = f"transport to {other}" if other else "image_topic to a topic of images"
        return f"{self.topic} carries {', '.join(sorted(found))}, expected {expected}: set cameras.{self.name}.{remedy}"

    def _on_message(self, message: Any) -> None:
        self.last_frame_s = time.monotonic()
        raw = self._message_type is Image
        self._on_frame(self.name, frame_from_image(message) if raw else frame_from_compressed(message))

    def _is_wanted(self, output: str) -> bool:
        return bool(self._publishers[output].get_subscription_count())
