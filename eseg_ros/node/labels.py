"""What the ids in a mask mean, latched: as JSON text always, as vision_msgs/LabelInfo where that is installed."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from eseg_ros.labels import ClassSet

try:
    import vision_msgs.msg as vision_msgs
except ImportError:  # no part of ROS's base; LabelInfo came with 4.0
    vision_msgs = None


class LabelPublishers:
    """`~/label_info`, and `~/vision_label_info` where vision_msgs has LabelInfo."""

    def __init__(self, node: Node) -> None:
        latched = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._node = node
        self._published: tuple[str, ClassSet, float] | None = None
        self._json = node.create_publisher(String, "~/label_info", latched)
        self._vision = None
        if hasattr(vision_msgs, "LabelInfo"):
            self._vision = node.create_publisher(vision_msgs.LabelInfo, "~/vision_label_info", latched)

    def publish(self, engine: str, classes: ClassSet, threshold: float) -> None:
        """Publish unless this is what was published last.

        Args:
            engine: the engine's name.
            classes: what the ids in the masks mean.
            threshold: the confidence threshold, 0 to 1.
        """
        if self._published == (engine, classes, threshold):
            return
        self._published = (engine, classes, threshold)
        self._json.publish(label_info_message(engine, classes))
        if self._vision is not None:
            message = vision_label_info(vision_msgs, classes, threshold)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._vision.publish(message)


def label_info_message(engine: str, classes: ClassSet) -> String:
    """The labels as JSON text.

    `{"engine": NAME, "ignore_id": ID, "classes": [{"id": ID, "name": NAME, "color": [R, G, B]}, ...]}`
    """
    labels = [
        {"id": index, "name": name, "color": list(color)}
        for index, (name, color) in enumerate(zip(classes.names, classes.palette, strict=True))
    ]
    return String(data=json.dumps({"engine": engine, "ignore_id": classes.ignore_id, "classes": labels}))


def vision_label_info(messages: ModuleType, classes: ClassSet, threshold: float) -> Any:
    """The labels as a LabelInfo of the module `vision_msgs.msg`; the header is left empty."""
    class_map = [messages.VisionClass(class_id=index, class_name=name) for index, name in enumerate(classes.names)]
    return messages.LabelInfo(class_map=class_map, threshold=threshold)
