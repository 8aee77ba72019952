"""The way out of one camera: its publishers, and what somebody listens to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from eseg_ros.labels import Relabeling
from eseg_ros.node.camera_info import output_camera_info
from eseg_ros.node.messages import compressed_message, image_message, ns_to_stamp
from eseg_ros.node.parameters import LiveCameraParameters
from eseg_ros.runtime.types import Outputs, Result

QUEUE_DEPTH = 5
CAMERA_INFO = "camera_info"


@dataclass(frozen=True, slots=True)
class ImageTopic:
    """A topic under `~/NAME/`.

    Attributes:
        name: last part of the topic.
        output: the attribute of `Result` that it carries.
        encoding: sensor_msgs encoding.
        file_format: "png" or "jpeg" for a CompressedImage, empty for an Image.
    """

    name: str
    output: str
    encoding: str
    file_format: str = ""


IMAGE_TOPICS = (
    ImageTopic("mask", "mask", "mono8"),
    ImageTopic("color_mask", "color_mask", "bgr8"),
    ImageTopic("overlay", "overlay", "bgr8"),
    ImageTopic("confidence", "confidence", "mono8"),
    # Behind the others, so that no compression delays them.
    ImageTopic("mask/compressed", "mask", "mono8", "png"),
    ImageTopic("color_mask/compressed", "color_mask", "bgr8", "png"),
    ImageTopic("overlay/compressed", "overlay", "bgr8", "jpeg"),
)


class CameraOutputs:
    """A camera's publishers. The worker's thread calls `requested` and `publish`, the executor's everything else."""

    def __init__(self, node: Node, camera: str) -> None:
        self._node = node
        self._publishers: dict[str, Publisher] = {}
        for topic in IMAGE_TOPICS:
            message_type = CompressedImage if topic.file_format else Image
            self._publishers[topic.name] = self._publisher(message_type, f"~/{camera}/{topic.name}")
        self._publishers[CAMERA_INFO] = self._publisher(CameraInfo, f"~/{camera}/{CAMERA_INFO}")

    def have_subscribers(self) -> bool:
        """Whether somebody is subscribed to any of the topics."""
        return any(map(self._is_wanted, self._publishers))

    def requested(self, live: LiveCameraParameters, relabeling: Relabeling | None) -> Outputs:
        """What the next frame must yield: what somebody is subscribed to, in any form."""
        wanted = {topic.output for topic in IMAGE_TOPICS if self._is_wanted(topic.name)}
        return Outputs(
            color_mask="color_mask" in wanted,
            overlay="overlay" in wanted,
            confidence="confidence" in wanted,
            overlay_alpha=live.overlay_alpha,
            confidence_threshold=live.confidence_threshold,
            scale=live.scale,
            relabeling=relabeling,
        )

    def publish(self, result: Result, jpeg_quality: int) -> None:
        """Publish what the result holds and somebody is subscribed to, with the frame's stamp and frame_id."""
        stamp_ns, frame_id = result.stamp_ns, result.frame_id
        for topic in IMAGE_TOPICS:
            pixels = getattr(result, topic.output)
            if pixels is None or not self._is_wanted(topic.name):
                continue
            message = (
                compressed_message(pixels, topic.encoding, topic.file_format, stamp_ns, frame_id, jpeg_quality)
                if topic.file_format
                else image_message(pixels, topic.encoding, stamp_ns, frame_id)
            )
            self._publishers[topic.name].publish(message)

    def publish_camera_info(self, info: CameraInfo, result: Result) -> None:
        """Publish the calibration of the result's mask if somebody is subscribed to it.

        Raises:
            CameraInfoError: `info` describes an image of another shape.
        """
        if not self._is_wanted(CAMERA_INFO):
            return
        message = output_camera_info(info, (result.mask.shape[1], result.mask.shape[0]))
        message.header.stamp = ns_to_stamp(result.stamp_ns)
        message.header.frame_id = result.frame_id
        self._publishers[CAMERA_INFO].publish(message)

    def close(self) -> None:
        """Take the topics away. The worker must be stopped."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _publisher(self, message_type: Any, topic: str) -> Publisher:
        return self._node.create_publisher(
            message_type,
            topic,
            # Reliable matches best-effort subscribers too.
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _is_wanted(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())
