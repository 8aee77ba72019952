"""The least that a node can do: it takes an image and publishes an empty mask of its size."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from eseg_ros.node.benchmark.process import ros_process, spin
from eseg_ros.node.messages import image_message, stamp_to_ns

DEPTH = 5


class EchoNode(Node):
    """Takes and publishes with the QoS of the segmentation node."""

    def __init__(self, context: Context, image_topic: str, mask_topic: str) -> None:
        super().__init__("echo", context=context, start_parameter_services=False)
        self._masks = self.create_publisher(Image, mask_topic, DEPTH)
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, image_topic, self._on_image, qos)

    def _on_image(self, message: Image) -> None:
        mask = np.zeros((message.height, message.width), np.uint8)
        self._masks.publish(image_message(mask, "mono8", stamp_to_ns(message.header.stamp), message.header.frame_id))


def main(arguments: Sequence[str] | None = None) -> int:
    """`echo IMAGE_TOPIC MASK_TOPIC`, until a signal comes."""
    image_topic, mask_topic = sys.argv[1:] if arguments is None else arguments
    with ros_process() as (context, stopped):
        spin(EchoNode(context, image_topic, mask_topic), stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
