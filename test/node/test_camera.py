from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from eseg_ros.node.camera import Camera, RateLimiter, UnsupportedEventTypeError, camera_info_beside
from eseg_ros.node.parameters import CameraParameters
from eseg_ros.runtime.types import Frame, Result, Timings

if TYPE_CHECKING:
    from conftest import RosGraph


class Rig:
    """A camera on the peer node, and the frames that it handed on."""

    def __init__(self, ros: RosGraph, node: Node | None = None, **parameters: Any) -> None:
        self.frames: list[tuple[str, Frame]] = []
        values = {"name": "front", "image_topic": "image"} | parameters
        self.camera = Camera(
            node or ros.peer, CameraParameters(**values), lambda camera, frame: self.frames.append((camera.name, frame))
        )


def reliability_of_subscription(ros: RosGraph) -> ReliabilityPolicy:
    ros.until(lambda: len(ros.peer.get_subscriptions_info_by_topic("/image")) == 1)
    return ros.peer.get_subscriptions_info_by_topic("/image")[0].qos_profile.reliability


def test_images_arrive_until_stop(ros: RosGraph) -> None:
    rig = Rig(ros)
    images = ros.publisher(Image, "image")
    rig.camera.follow(lazy=False)
    ros.until(images.get_subscription_count)

    images.publish(ros.image(np.zeros((4, 6, 3), np.uint8)))
    ros.until(lambda: rig.frames)
    assert rig.camera.last_frame_s is not None
    rig.camera.stop()
    ros.until(lambda: not images.get_subscription_count())

    name, frame = rig.frames[0]
    assert (name, frame.width, frame.height, frame.frame_id) == ("front", 6, 4, "front")
    assert rig.camera.last_frame_s is None


def test_compressed_images_arrive_by_the_compressed_transport(ros: RosGraph) -> None:
    rig = Rig(ros, transport="compressed")
    images = ros.publisher(CompressedImage, "image")
    rig.camera.follow(lazy=False)
    ros.until(images.get_subscription_count)

    images.publish(CompressedImage(format="png", data=b"bytes"))
    ros.until(lambda: rig.frames)

    assert (rig.frames[0][1].encoding, bytes(rig.frames[0][1].data)) == ("png", b"bytes")


def test_a_lazy_camera_is_subscribed_as_long_as_somebody_listens(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.follow(lazy=True)
    assert not camera.subscribed

    listener = ros.peer.create_subscription(Image, "/peer/front/mask", print, 1)
    ros.until(camera.outputs.have_subscribers)
    camera.follow(lazy=True)
    assert camera.subscribed

    ros.peer.destroy_subscription(listener)
    ros.until(lambda: not camera.outputs.have_subscribers())
    camera.follow(lazy=True)
    assert not camera.subscribed


def test_a_camera_may_become_lazy_and_eager_again(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    for lazy in (False, True, False):
        camera.follow(lazy=lazy)
        assert camera.subscribed is not lazy


def result(stamp_ns: int) -> Result:
    return Result(np.zeros((4, 6), np.uint8), Timings(1.0, 1.0, 1.0), stamp_ns, "front")


def info(seconds: int, focal_length: float) -> CameraInfo:
    message = CameraInfo(width=6, height=4)
    message.header.stamp.sec = seconds
    message.k[0] = focal_length
    return message


def test_a_result_gets_the_calibration_of_its_own_stamp_else_the_last_one(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.follow(lazy=False)
    calibrations = ros.publisher(CameraInfo, "camera_info")
    answers = ros.listen(CameraInfo, "/peer/front/camera_info")
    ros.until(lambda: calibrations.get_subscription_count() and camera.outputs.have_subscribers())
    for seconds, focal_length in ((1, 10.0), (2, 20.0), (3, 30.0)):
        calibrations.publish(info(seconds, focal_length))

    def answered(seconds: int, focal_length: float) -> bool:
        camera.publish(result(seconds * 10**9), 90)
        return bool(answers) and answers[-1].header.stamp.sec == seconds and answers[-1].k[0] == focal_length

    ros.until(lambda: answered(9, 30.0))
    ros.until(lambda: answered(2, 20.0))


def test_ages_are_those_by_the_nodes_clock_and_end_when_it_jumps(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.publish(result(ros.peer.get_clock().now().nanoseconds - 10**9), 90)
    assert 1000 <= camera.ages_ms[0] < 9000

    camera.forget_times()

    assert not camera.ages_ms


def test_a_calibration_that_does_not_fit_is_told_and_not_published(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.follow(lazy=False)
    calibrations = ros.publisher(CameraInfo, "camera_info")
    ros.listen(CameraInfo, "/peer/front/camera_info")
    ros.until(lambda: calibrations.get_subscription_count() and camera.outputs.have_subscribers())
    calibrations.publish(CameraInfo(width=100, height=100))

    def told() -> bool:
        camera.publish(result(0), 90)
        return camera.info_problem is not None

    ros.until(told)

    assert "an image of 100x100 pixels, but the output has 6x4" in str(camera.info_problem)


@pytest.mark.parametrize(
    ("image_topic", "info_topic"),
    [
        ("/front/image_raw", "/front/camera_info"),
        ("/front/image_raw/compressed", "/front/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_the_calibration_is_looked_for_beside_the_images(image_topic: str, info_topic: str) -> None:
    assert camera_info_beside(image_topic) == info_topic


def test_the_calibrations_topic_may_be_set(ros: RosGraph) -> None:
    assert Rig(ros, camera_info_topic="calibration/front").camera.info_topic == "/calibration/front"


def test_a_topic_that_carries_another_image_type_is_told_with_the_transport_to_set(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.follow(lazy=False)
    ros.foreign_publisher(CompressedImage, "image")

    ros.until(camera.topic_problem)

    assert camera.topic_problem() == (
        "/image carries sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image: "
        "set cameras.front.transport to compressed"
    )


def test_a_topic_of_the_right_type_is_no_problem_whatever_else_is_published_on_it(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    ros.foreign_publisher(CompressedImage, "image")
    ros.until(camera.topic_problem)

    ros.publisher(Image, "image")

    ros.until(lambda: camera.topic_problem() is None)


def test_a_silent_topic_is_no_problem(ros: RosGraph) -> None:
    assert Rig(ros).camera.topic_problem() is None


def test_a_publisher_whose_qos_does_not_fit_is_named_with_what_to_set(ros: RosGraph) -> None:
    camera = Rig(ros, reliability="reliable").camera
    camera.follow(lazy=False)
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    ros.peer.create_publisher(Image, "image", best_effort)

    ros.until(camera.topic_problem)

    problem = str(camera.topic_problem())
    assert problem.startswith("incompatible QoS with publisher /peer of /image (Best effort publisher and reliable")
    assert problem.endswith("set cameras.front.reliability to best_effort")


def test_one_publisher_that_fits_is_enough(ros: RosGraph) -> None:
    camera = Rig(ros, reliability="reliable").camera
    camera.follow(lazy=False)
    ros.peer.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    ros.until(camera.topic_problem)

    ros.publisher(Image, "image")

    ros.until(lambda: camera.topic_problem() is None)


def test_images_are_taken_best_effort_unless_reliability_says_otherwise(ros: RosGraph) -> None:
    for reliability, policy in (
        ("best_effort", ReliabilityPolicy.BEST_EFFORT),
        ("reliable", ReliabilityPolicy.RELIABLE),
    ):
        camera = Rig(ros, reliability=reliability).camera
        camera.follow(lazy=False)
        assert reliability_of_subscription(ros) == policy
        camera.close()
        ros.until(lambda: not ros.peer.get_subscriptions_info_by_topic("/image"))


def test_quality_of_service_can_be_overridden_by_parameter(ros: RosGraph) -> None:
    name = "qos_overrides./image.subscription.reliability"
    node = Node("override", context=ros.context, parameter_overrides=ros.overrides(**{name: "reliable"}))
    ros.add(node)

    Rig(ros, node).camera.follow(lazy=False)

    assert reliability_of_subscription(ros) == ReliabilityPolicy.RELIABLE


@pytest.fixture
def subscription_options(ros: RosGraph, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each subscription of the peer node is made with, from now on."""
    made: list[dict[str, Any]] = []
    create = ros.peer.create_subscription

    def create_subscription(*arguments: Any, **options: Any) -> Any:
        made.append(options)
        return create(*arguments, **options)

    monkeypatch.setattr(ros.peer, "create_subscription", create_subscription)
    return made


def test_images_that_the_middleware_lost_are_counted(ros: RosGraph, subscription_options: list[dict[str, Any]]) -> None:
    camera = Rig(ros).camera
    camera.follow(lazy=False)
    events = subscription_options[0]["event_callbacks"]

    for lost in (2, 3):
        events.message_lost(SimpleNamespace(total_count_change=lost))

    assert camera.lost == 5


def test_a_middleware_that_cannot_tell_what_it_lost_is_taken_as_it_is(
    ros: RosGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ros.peer.create_subscription

    def create_subscription(*arguments: Any, event_callbacks: Any = None, **options: Any) -> Any:
        if event_callbacks is not None:
            raise UnsupportedEventTypeError("no such event")
        return create(*arguments, **options)

    monkeypatch.setattr(ros.peer, "create_subscription", create_subscription)
    camera = Rig(ros).camera

    camera.follow(lazy=False)

    assert camera.subscribed


def admitted(rate_hz: float, arrivals_s: list[float]) -> int:
    limiter = RateLimiter()
    return sum(limiter.admits(100.0 + at, rate_hz) for at in arrivals_s)


@pytest.mark.parametrize(
    ("camera_hz", "rate_hz", "taken"), [(30, 0, 300), (30, 10, 100), (30, 20, 200), (30, 7, 70), (30, 60, 300)]
)
def test_a_jittering_camera_gives_the_rate_that_is_asked_for(camera_hz: int, rate_hz: float, taken: int) -> None:
    jitter = np.random.default_rng(0).uniform(-0.003, 0.003, 300)
    arrivals = [index / camera_hz + shift for index, shift in enumerate(jitter)]

    assert abs(admitted(rate_hz, arrivals) - taken) <= 2


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    assert admitted(1.0, [0.0, 60.0, 60.1, 60.2, 60.3]) == 2


def test_a_higher_rate_holds_at_once() -> None:
    limiter = RateLimiter()
    assert limiter.admits(100.0, 0.01)

    assert limiter.admits(100.2, 10.0)


def test_frames_beyond_the_rate_are_counted(ros: RosGraph) -> None:
    camera = Rig(ros).camera
    camera.last_frame_s = 100.0

    assert [camera.admits(1.0) for _ in range(3)] == [True, False, False]
    assert camera.dropped_rate == 2
