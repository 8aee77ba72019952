"""The labels' messages; vision_msgs is not on PyPI, so that its messages are stand-ins with its fields."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from eseg_ros.labels import CAMVID, relabeling
from eseg_ros.node import labels
from eseg_ros.node.labels import LabelPublishers, label_info_message, vision_label_info

if TYPE_CHECKING:
    from conftest import RosGraph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class VisionClass:
    class_id: int = 0
    class_name: str = ""


@dataclass
class LabelInfo:
    header: Any = field(default_factory=SimpleNamespace)
    class_map: list[VisionClass] = field(default_factory=list)
    threshold: float = 0.0


@pytest.fixture
def vision_msgs() -> ModuleType:
    module = ModuleType("vision_msgs.msg")
    module.__dict__.update(VisionClass=VisionClass, LabelInfo=LabelInfo)
    return module


def test_the_json_names_and_colors_every_id() -> None:
    info = json.loads(label_info_message("tiny", CAMVID).data)

    assert info["engine"] == "tiny"
    assert info["ignore_id"] == 255
    assert info["classes"][3] == {"id": 3, "name": "road", "color": [128, 64, 128]}
    assert [label["id"] for label in info["classes"]] == list(range(len(CAMVID)))


def test_relabeled_classes_have_their_new_ids() -> None:
    info = json.loads(label_info_message("tiny", relabeling(CAMVID, ["sky:", "pole:building"]).classes).data)

    assert [label["name"] for label in info["classes"]][:3] == ["building", "road", "pavement"]


def test_vision_msgs_gets_every_id_and_the_threshold(vision_msgs: ModuleType) -> None:
    info = vision_label_info(vision_msgs, CAMVID, 0.25)

    assert info.class_map[3] == VisionClass(3, "road")
    assert (len(info.class_map), info.threshold) == (len(CAMVID), 0.25)


class RecordingNode:
    """Stands in where a real node would need the type support of a real vision_msgs."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any]] = []

    def create_publisher(self, message_type: Any, topic: str, qos: QoSProfile) -> SimpleNamespace:
        assert qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message)))

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: "now"))


def test_where_vision_msgs_is_installed_both_are_published(
    vision_msgs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "vision_msgs", vision_msgs)
    node = RecordingNode()

    LabelPublishers(node).publish("tiny", CAMVID, 0.5)

    assert [topic for topic, _ in node.published] == ["~/label_info", "~/vision_label_info"]
    assert (node.published[1][1].header.stamp, node.published[1][1].threshold) == ("now", 0.5)


def test_where_it_is_not_or_is_too_old_the_json_is_published_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (None, ModuleType("vision_msgs.msg")):
        monkeypatch.setattr(labels, "vision_msgs", module)
        node = RecordingNode()

        LabelPublishers(node).publish("tiny", CAMVID, 0.5)

        assert [topic for topic, _ in node.published] == ["~/label_info"]


def test_the_same_labels_are_published_once_and_latched(ros: RosGraph) -> None:
    publishers = LabelPublishers(ros.peer)
    heard = ros.listen(String, "/peer/label_info", QoSProfile(depth=9, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    for threshold in (0.5, 0.5, 0.6):
        publishers.publish("tiny", CAMVID, threshold)

    late = ros.listen(String, "/peer/label_info", LATCHED)
    ros.until(lambda: late and len(heard) == 2)

    assert json.loads(late[0].data)["engine"] == "tiny"
