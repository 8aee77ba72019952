from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from eseg_ros.labels import CAMVID, relabeling
from eseg_ros.node.outputs import CameraOutputs
from eseg_ros.node.parameters import LiveCameraParameters
from eseg_ros.runtime.types import Outputs, Result, Timings

if TYPE_CHECKING:
    from conftest import RosGraph

LIVE = LiveCameraParameters(overlay_alpha=0.25, confidence_threshold=0.5, scale=0.5)
RESULT = Result(
    mask=np.full((2, 3), 7, np.uint8),
    timings=Timings(1.0, 1.0, 1.0),
    stamp_ns=5_000_000_006,
    frame_id="front",
    color_mask=np.full((2, 3, 3), 8, np.uint8),
    overlay=np.full((2, 3, 3), 9, np.uint8),
)


@pytest.fixture
def outputs(ros: RosGraph) -> CameraOutputs:
    return CameraOutputs(ros.peer, "front")


def requested(outputs: CameraOutputs) -> Outputs:
    return outputs.requested(LIVE, None)


def heard(ros: RosGraph, outputs: CameraOutputs, message_type: Any, topic: str, qos: QoSProfile | int = 10) -> Any:
    """The first message of a topic while RESULT is published again and again."""
    messages = ros.listen(message_type, f"/peer/front/{topic}", qos)

    def published() -> bool:
        outputs.publish(RESULT, 90)
        return bool(messages)

    ros.until(published)
    return messages[0]


@pytest.mark.parametrize(
    ("topic", "message_type", "output"),
    [
        ("color_mask", Image, "color_mask"),
        ("overlay", Image, "overlay"),
        ("confidence", Image, "confidence"),
        ("color_mask/compressed", CompressedImage, "color_mask"),
        ("overlay/compressed", CompressedImage, "overlay"),
    ],
)
def test_an_output_is_asked_for_only_while_somebody_subscribes_to_one_of_its_forms(
    ros: RosGraph, outputs: CameraOutputs, topic: str, message_type: Any, output: str
) -> None:
    assert not getattr(requested(outputs), output)

    subscription = ros.peer.create_subscription(message_type, f"/peer/front/{topic}", print, 1)
    ros.until(lambda: getattr(requested(outputs), output))
    others = {"color_mask", "overlay", "confidence"} - {output}
    assert not any(getattr(requested(outputs), other) for other in others)
    ros.peer.destroy_subscription(subscription)

    ros.until(lambda: not getattr(requested(outputs), output))


@pytest.mark.parametrize(
    ("topic", "message_type"), [("mask", Image), ("mask/compressed", CompressedImage), ("camera_info", CameraInfo)]
)
def test_somebody_who_listens_to_any_topic_is_a_subscriber(
    ros: RosGraph, outputs: CameraOutputs, topic: str, message_type: Any
) -> None:
    assert not outputs.have_subscribers()

    ros.listen(message_type, f"/peer/front/{topic}")

    ros.until(outputs.have_subscribers)


def test_parameters_reach_the_request(outputs: CameraOutputs) -> None:
    classes = relabeling(CAMVID, ["sky:"])

    asked = outputs.requested(LIVE, classes)

    assert asked == Outputs(overlay_alpha=0.25, confidence_threshold=0.5, scale=0.5, relabeling=classes)


@pytest.mark.parametrize("qos", [qos_profile_sensor_data, QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)])
def test_reliable_and_best_effort_subscribers_both_get_the_mask(
    ros: RosGraph, outputs: CameraOutputs, qos: QoSProfile
) -> None:
    mask = heard(ros, outputs, Image, "mask", qos)

    assert (mask.encoding, mask.header.frame_id, bytes(mask.data)) == ("mono8", "front", b"\7" * 6)
    assert (mask.header.stamp.sec, mask.header.stamp.nanosec) == (5, 6)


@pytest.mark.parametrize(
    ("topic", "value", "image_format"),
    [
        ("mask/compressed", 7, "mono8; png compressed mono8"),
        ("color_mask/compressed", 8, "bgr8; png compressed bgr8"),
        ("overlay/compressed", 9, "bgr8; jpeg compressed bgr8"),
    ],
)
def test_compressed_forms_hold_what_the_others_hold(
    ros: RosGraph, outputs: CameraOutputs, topic: str, value: int, image_format: str
) -> None:
    message = heard(ros, outputs, CompressedImage, topic)

    assert message.format == image_format
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == ("front", 5, 6)
    pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.all(pixels == value)


def test_what_a_result_does_not_hold_is_not_published(ros: RosGraph, outputs: CameraOutputs) -> None:
    confidences = ros.listen(Image, "/peer/front/confidence")
    ros.until(lambda: requested(outputs).confidence)

    heard(ros, outputs, Image, "overlay")

    assert confidences == []


def test_the_calibration_has_the_size_the_stamp_and_the_frame_of_the_mask(
    ros: RosGraph, outputs: CameraOutputs
) -> None:
    infos = ros.listen(CameraInfo, "/peer/front/camera_info")
    ros.until(outputs.have_subscribers)

    outputs.publish_camera_info(CameraInfo(width=6, height=4), RESULT)
    ros.until(lambda: infos)

    assert (infos[0].width, infos[0].height, infos[0].header.frame_id) == (3, 2, "front")
    assert (infos[0].header.stamp.sec, infos[0].header.stamp.nanosec) == (5, 6)


def test_close_takes_the_topics_away(ros: RosGraph, outputs: CameraOutputs) -> None:
    outputs.close()

    assert ros.peer.count_publishers("/peer/front/mask") == 0
