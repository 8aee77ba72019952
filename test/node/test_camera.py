from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from eseg_ros.node.camera import Camera
from eseg_ros.node.parameters import CameraParameters, LiveParameters
from eseg_ros.runtime.types import Frame, Result, Timings

if TYPE_CHECKING:
    from conftest import RosGraph

LIVE = LiveParameters(max_age_ms=0.0, overlay_alpha=0.25, confidence_threshold=0.5)
RESULT = Result(
    mask=np.full((2, 3), 7, np.uint8),
    timings=Timings(1.0, 1.0, 1.0),
    stamp_ns=5_000_000_006,
    frame_id="front",
    overlay=np.full((2, 3, 3), 9, np.uint8),
)


class Rig:
    """A camera on the peer node, and the frames that it handed on."""

    def __init__(self, ros: RosGraph, transport: str = "raw") -> None:
        self.frames: list[tuple[str, Frame]] = []
        parameters = CameraParameters("front", "image", transport)
        self.camera = Camera(ros.peer, parameters, lambda name, frame: self.frames.append((name, frame)))


def test_images_arrive_between_start_and_stop(ros: RosGraph) -> None:
    rig = Rig(ros)
    images = ros.publisher(Image, "image")
    rig.camera.start()
    ros.until(images.get_subscription_count)

    images.publish(ros.image(np.zeros((4, 6, 3), np.uint8)))
    ros.until(lambda: rig.frames)
    rig.camera.stop()
    ros.until(lambda: not images.get_subscription_count())

    name, frame = rig.frames[0]
    assert (name, frame.width, frame.height, frame.frame_id) == ("front", 6, 4, "front")


def test_compressed_images_arrive_by_the_compressed_transport(ros: RosGraph) -> None:
    rig = Rig(ros, "compressed")
    images = ros.publisher(CompressedImage, "image")
    rig.camera.start()
    ros.until(images.get_subscription_count)

    images.publish(CompressedImage(format="png", data=b"bytes"))
    ros.until(lambda: rig.frames)

    assert (rig.frames[0][1].encoding, bytes(rig.frames[0][1].data)) == ("png", b"bytes")


@pytest.mark.parametrize("output", ["color_mask", "overlay", "confidence"])
def test_an_output_is_asked_for_only_while_somebody_subscribes(ros: RosGraph, output: str) -> None:
    camera = Rig(ros).camera
    assert not getattr(camera.outputs(LIVE), output)

    subscription = ros.peer.create_subscription(Image, f"/peer/front/{output}", print, 1)
    ros.until(lambda: getattr(camera.outputs(LIVE), output))
    ros.peer.destroy_subscription(subscription)

    ros.until(lambda: not getattr(camera.outputs(LIVE), output))


def test_live_parameters_reach_the_outputs(ros: RosGraph) -> None:
    outputs = Rig(ros).camera.outputs(LIVE)

    assert (outputs.overlay_alpha, outputs.confidence_threshold) == (0.25, 0.5)


@pytest.mark.parametrize("qos", [qos_profile_sensor_data, QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)])
def test_reliable_and_best_effort_subscribers_both_get_the_mask(ros: RosGraph, qos: QoSProfile) -> None:
    camera = Rig(ros).camera
    masks = ros.listen(Image, "/peer/front/mask", qos)

    def published() -> bool:
        camera.publish(RESULT)
        return bool(masks)

    ros.until(published)

    assert (masks[0].encoding, masks[0].header.frame_id, bytes(masks[0].data)) == ("mono8", "front", b"\7" * 6)


def test_what_a_result_does_not_hold_is_not_published(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    overlays, colors = (ros.listen(Image, f"/peer/front/{output}") for output in ("overlay", "color_mask"))

    def published() -> bool:
        camera.publish(RESULT)
        return len(overlays) > 3

    ros.until(lambda: camera.outputs(LIVE).color_mask)
    ros.until(published)

    assert overlays[0].encoding == "bgr8"
    assert colors == []


def test_a_topic_that_carries_another_image_type_is_told_with_the_transport_to_set(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.start()
    ros.foreign_publisher(CompressedImage, "image")

    ros.until(camera.type_problem)

    assert camera.type_problem() == (
        "/image carries sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image: "
        "set cameras.front.transport to compressed"
    )


def test_a_topic_of_the_right_type_is_no_problem_whatever_else_is_published_on_it(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    ros.foreign_publisher(CompressedImage, "image")
    ros.until(camera.type_problem)

    ros.publisher(Image, "image")

    ros.until(lambda: camera.type_problem() is None)


def test_a_silent_topic_is_no_type_problem(ros: RosGraph) -> None:
    assert Rig(ros).camera.type_problem() is None


def test_quality_of_service_can_be_overridden_by_parameter(ros: RosGraph) -> None:
    from rclpy.node import Node

    name = "qos_overrides./image.subscription.reliability"
    node = Node("override", context=ros.context, parameter_overrides=ros.overrides(**{name: "reliable"}))
    ros.add(node)
    camera = Camera(node, CameraParameters("front", "image", "raw"), lambda name, frame: None)
    camera.start()

    ros.until(lambda: ros.peer.get_subscriptions_info_by_topic("/image"))

    assert ros.peer.get_subscriptions_info_by_topic("/image")[0].qos_profile.reliability == ReliabilityPolicy.RELIABLE
