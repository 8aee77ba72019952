from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from eseg_ros.engine.manifest import load_engine
from eseg_ros.labels import CAMVID, relabeling
from eseg_ros.node import diagnostics
from eseg_ros.node.messages import frame_from_image, image_message
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Outputs, Result

if TYPE_CHECKING:
    from conftest import Rig

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STAMP = (1_700_000_000, 123_456_789)


def street(height: int = 128, width: int = 192) -> npt.NDArray[np.uint8]:
    """A bgr8 image in the class colors, with noise, whose mask has several classes."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.repeat(random.integers(0, len(CAMVID), (4, 6)), height // 4, 0), width // 6, 1)
    noise = random.integers(0, 12, (height, width, 3), dtype=np.uint8)
    return np.ascontiguousarray(CAMVID.color_table()[labels][:, :, ::-1] // 2 * 2 + noise % 2)


def offline(engine: Path, message: Image, outputs: Outputs | None = None) -> Result:
    """What the same engine makes of a message without ROS."""
    with Pipeline(create_runtime(load_engine(engine), "auto", 1, 1)) as pipeline:
        (result,) = pipeline.map([frame_from_image(message)], outputs)
    assert isinstance(result, Result)
    return result


def pixels_of(message: Image) -> npt.NDArray[np.uint8]:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1).squeeze()


def test_the_mask_is_the_offline_result_with_the_stamp_and_frame_of_the_image(rig: Rig, tiny_engine: Path) -> None:
    rig.start()
    message = rig.ros.image(street(), stamp=STAMP)

    mask = rig.exchange(rig.camera(), message, rig.ros.listen(Image, "/segmentation/front/mask"))

    assert (mask.header.stamp, mask.header.frame_id) == (message.header.stamp, "front")
    assert (mask.encoding, mask.width, mask.height, mask.step) == ("mono8", 192, 128, 192)
    np.testing.assert_array_equal(pixels_of(mask), offline(tiny_engine, message).mask)
    assert len(np.unique(pixels_of(mask))) > 3


@pytest.mark.parametrize("output", ["color_mask", "overlay", "confidence"])
def test_every_other_output_is_the_offline_result_too(rig: Rig, tiny_engine: Path, output: str) -> None:
    rig.start()
    message = rig.ros.image(street())

    published = rig.exchange(rig.camera(), message, rig.ros.listen(Image, f"/segmentation/front/{output}"))

    expected = getattr(offline(tiny_engine, message, Outputs(**{output: True})), output)
    np.testing.assert_array_equal(pixels_of(published), expected)


def test_a_compressed_camera_gives_a_mask_at_its_resolution(rig: Rig) -> None:
    rig.start(cameras__front__transport="compressed")
    message = CompressedImage(format="bgr8; png compressed bgr8", data=cv2.imencode(".png", street())[1].tobytes())
    message.header.frame_id = "front"

    mask = rig.exchange(rig.camera(CompressedImage), message, rig.ros.listen(Image, "/segmentation/front/mask"))

    assert (mask.width, mask.height, mask.header.frame_id) == (192, 128, "front")


def test_two_cameras_of_different_size_and_transport_share_a_node(rig: Rig) -> None:
    rig.start(
        camera_names=["front", "left"],
        cameras__left__image_topic="left/image",
        cameras__left__transport="compressed",
    )
    fronts = rig.ros.listen(Image, "/segmentation/front/mask")
    lefts = rig.ros.listen(Image, "/segmentation/left/mask")
    jpeg = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", street(64, 96))[1].tobytes())

    front = rig.exchange(rig.camera(), rig.ros.image(street()), fronts)
    left = rig.exchange(rig.camera(CompressedImage, "/left/image"), jpeg, lefts)

    assert (front.width, left.width) == (192, 96)


def test_a_confidence_threshold_set_live_marks_uncertain_pixels(rig: Rig) -> None:
    node = rig.start()
    masks = rig.ros.listen(Image, "/segmentation/front/mask")
    camera = rig.camera()
    rig.exchange(camera, rig.ros.image(street()), masks)

    assert node.set_parameters_atomically([Parameter("confidence_threshold", value=1.0)]).successful
    masks.clear()

    def marked() -> bool:
        camera.publish(rig.ros.image(street()))
        return bool(masks) and 255 in pixels_of(masks[-1])

    rig.ros.until(marked)


def test_frames_older_than_max_age_are_dropped_and_told(rig: Rig) -> None:
    node = rig.start()
    assert node.set_parameters_atomically([Parameter("max_age_ms", value=100.0)]).successful
    camera = rig.camera()

    camera.publish(rig.ros.image(street(), stamp=STAMP))

    rig.ros.until(lambda: rig.value("camera front", "dropped_stale") == "1")


def with_fields(message: Image, **fields: Any) -> Image:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD_IMAGES: dict[str, dict[str, Any]] = {
    "cut data": {"data": bytes(100)},
    "no data": {"data": b""},
    "a step shorter than a row": {"step": 10},
    "a step that the data does not hold": {"step": 192 * 3 + 64},
    "zero width": {"width": 0},
    "zero height": {"height": 0},
    "a size that would not fit into memory": {"width": 2**32 - 1, "height": 2**32 - 1, "step": 2**32 - 1},
    "an unknown encoding": {"encoding": "plaid8"},
    "no encoding": {"encoding": ""},
}


@pytest.mark.parametrize("fault", BAD_IMAGES)
def test_a_bad_image_is_counted_and_told_and_the_next_good_one_comes_through(rig: Rig, fault: str) -> None:
    rig.start()
    masks = rig.ros.listen(Image, "/segmentation/front/mask")
    camera = rig.camera()

    camera.publish(with_fields(rig.ros.image(street(), stamp=(1, 0)), **BAD_IMAGES[fault]))
    rig.ros.until(lambda: rig.value("camera front", "rejected") == "1")

    assert rig.value("camera front", "last rejection")
    assert masks == []
    assert rig.exchange(camera, rig.ros.image(street(), stamp=(2, 0)), masks).header.stamp.sec == 2


@pytest.mark.parametrize(
    ("image_format", "data"),
    [
        ("jpeg", b"not a jpeg"),
        ("jpeg", cv2.imencode(".jpg", street())[1].tobytes()[:200]),
        ("png", b""),
        ("h264", b"\0\0\0\1"),
    ],
    ids=["no jpeg", "a cut jpeg", "nothing", "a video"],
)
def test_a_bad_compressed_image_is_counted_and_survived(rig: Rig, image_format: str, data: bytes) -> None:
    rig.start(cameras__front__transport="compressed")
    masks = rig.ros.listen(Image, "/segmentation/front/mask")
    camera = rig.camera(CompressedImage)

    camera.publish(CompressedImage(format=image_format, data=data))
    rig.ros.until(lambda: rig.value("camera front", "rejected") == "1")

    good = CompressedImage(format="png", data=cv2.imencode(".png", street())[1].tobytes())
    assert rig.exchange(camera, good, masks).width == 192


def test_a_topic_of_another_type_is_told_with_what_to_set(rig: Rig) -> None:
    rig.start()
    rig.ros.foreign_publisher(CompressedImage, "/image")

    rig.ros.until(lambda: (status := rig.status("camera front")) and "carries" in status.message)

    status = rig.status("camera front")
    assert status is not None
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.endswith("set cameras.front.transport to compressed")


def test_diagnostics_tell_the_way_from_waiting_to_ok(rig: Rig) -> None:
    rig.start()
    rig.ros.until(lambda: (status := rig.status("camera front")) and "waiting for the first frame" in status.message)

    rig.exchange(rig.camera(), rig.ros.image(street()), rig.ros.listen(Image, "/segmentation/front/mask"))
    rig.ros.until(lambda: float(rig.value("camera front", "inference p50 (ms)") or 0) > 0)

    engine = rig.status("engine")
    assert engine is not None
    assert (engine.level, engine.message) == (DiagnosticStatus.OK, "active")
    assert (rig.value("engine", "engine"), rig.value("engine", "precision")) == ("tiny", "fp32")
    assert rig.value("engine", "runtime") in ("openvino", "onnxruntime")
    assert rig.value("engine", "device")


def test_the_labels_are_latched_for_those_who_come_late(rig: Rig) -> None:
    rig.start()

    late = rig.ros.listen(String, "/segmentation/label_info", LATCHED)
    rig.ros.until(lambda: late)

    info = json.loads(late[0].data)
    assert [label["name"] for label in info["classes"]] == list(CAMVID.names)


def listen_to_masks(rig: Rig, camera: str = "front") -> list[Image]:
    masks: list[Image] = rig.ros.listen(Image, f"/segmentation/{camera}/mask")
    return masks


def test_a_lazy_node_takes_images_only_while_somebody_listens(rig: Rig) -> None:
    rig.start(lazy=True)
    images = rig.ros.publisher(Image, "/image")
    rig.ros.until(lambda: (status := rig.status("camera front")) and status.message.startswith("idle: nobody"))
    assert images.get_subscription_count() == 0

    masks: list[Image] = []
    listener = rig.ros.peer.create_subscription(Image, "/segmentation/front/mask", masks.append, 10)
    rig.ros.until(images.get_subscription_count)
    rig.exchange(images, rig.ros.image(street()), masks)

    rig.ros.peer.destroy_subscription(listener)
    rig.ros.until(lambda: not images.get_subscription_count())


def test_lazy_may_be_switched_off_live(rig: Rig) -> None:
    node = rig.start(lazy=True)
    images = rig.ros.publisher(Image, "/image")

    assert node.set_parameters_atomically([Parameter("lazy", value=False)]).successful

    rig.ros.until(images.get_subscription_count)


def test_a_camera_may_vanish_and_come_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "STALE_AFTER_S", 0.2)
    rig.start()
    masks = listen_to_masks(rig)
    camera = rig.camera()
    rig.exchange(camera, rig.ros.image(street()), masks)

    rig.ros.peer.destroy_publisher(camera)
    rig.ros.until(
        lambda: (status := rig.status("camera front")) and status.message.endswith("which nobody publishes any more")
    )
    masks.clear()

    rig.exchange(rig.camera(), rig.ros.image(street()), masks)
    rig.ros.until(lambda: (status := rig.status("camera front")) and status.message == "ok")


def test_a_camera_may_change_its_size_and_its_encoding_at_any_time(rig: Rig) -> None:
    rig.start()
    camera, masks = rig.camera(), listen_to_masks(rig)
    gray = np.zeros((50, 70), np.uint8)
    pictures = [
        rig.ros.image(street()),
        rig.ros.image(street(64, 96)),
        image_message(gray, "mono8", 0, "front"),
        image_message(np.dstack([street()] * 2)[..., :4], "bgra8", 0, "front"),
    ]

    for picture in pictures:
        masks.clear()
        rig.ros.until(lambda: not masks)

        def answered(picture: Image = picture) -> bool:
            camera.publish(picture)
            return bool(masks) and (masks[-1].width, masks[-1].height) == (picture.width, picture.height)

        rig.ros.until(answered)


def test_an_encoding_that_is_not_supported_is_named_until_another_comes(rig: Rig) -> None:
    rig.start()
    camera, masks = rig.camera(), listen_to_masks(rig)

    def says(text: str) -> bool:
        camera.publish(with_fields(rig.ros.image(street()), encoding="plaid8"))
        status = rig.status("camera front")
        return status is not None and text in status.message

    rig.ros.until(lambda: says("rejecting 100 %: encoding 'plaid8' is not supported; expected one of"))
    rig.exchange(camera, rig.ros.image(street()), masks)
    rig.ros.until(lambda: (status := rig.status("camera front")) and "rejecting" not in status.message)


def test_outputs_are_scaled_live_with_their_calibration(rig: Rig) -> None:
    node = rig.start()
    camera, calibration = rig.camera(), rig.camera(CameraInfo, "/camera_info")
    masks, infos = listen_to_masks(rig), rig.ros.listen(CameraInfo, "/segmentation/front/camera_info")
    calibration.publish(CameraInfo(width=192, height=128))

    assert node.set_parameters_atomically([Parameter("cameras.front.scale", value=0.5)]).successful

    def scaled() -> bool:
        camera.publish(rig.ros.image(street(), stamp=STAMP))
        return bool(infos) and infos[-1].width == 96

    rig.ros.until(scaled)
    assert (masks[-1].width, masks[-1].height) == (infos[-1].width, infos[-1].height) == (96, 64)
    assert (infos[-1].header.stamp, infos[-1].header.frame_id) == (masks[-1].header.stamp, "front")


def test_classes_are_merged_and_dropped_in_mask_and_labels(rig: Rig, tiny_engine: Path) -> None:
    mapping = ["sky:", "building:thing", "pole:thing"]
    rig.start(classes__map=mapping)
    message = rig.ros.image(street())

    mask = rig.exchange(rig.camera(), message, listen_to_masks(rig))
    labels = rig.ros.listen(String, "/segmentation/label_info", LATCHED)
    rig.ros.until(lambda: labels)

    expected = offline(tiny_engine, message, Outputs(relabeling=relabeling(CAMVID, mapping))).mask
    np.testing.assert_array_equal(pixels_of(mask), expected)
    assert [label["name"] for label in json.loads(labels[0].data)["classes"]][:2] == ["thing", "road"]


def test_a_class_that_the_engine_does_not_have_fails_configure_with_the_nearest_one(rig: Rig) -> None:
    node = rig.start(classes__map=["raod:drivable"])

    rig.until_engine_says("classes.map does not fit: 'raod:drivable' names the class 'raod'")
    assert "did you mean 'road'?" in rig.until_engine_says("classes.map").message
    assert node.state == "unconfigured"


def test_images_beyond_the_rate_are_left_out_and_counted(rig: Rig) -> None:
    node = rig.start()
    camera = rig.camera()
    assert node.set_parameters_atomically([Parameter("cameras.front.max_rate", value=0.01)]).successful

    def counted() -> bool:
        camera.publish(rig.ros.image(street()))
        return int(rig.value("camera front", "dropped_rate") or 0) >= 3

    rig.ros.until(counted)

    values = {pair.key: pair.value for pair in rig.status("camera front").values}
    assert int(values["received"]) == int(values["published"]) + int(values["dropped_rate"])


def test_parameters_that_nothing_reads_are_told(rig: Rig) -> None:
    rig.start(overlay_alhpa=0.7)

    rig.ros.until(lambda: "did you mean overlay_alpha?" in (rig.value("engine", "ignored parameters") or ""))


def test_the_diagnostics_period_may_be_changed_live(rig: Rig) -> None:
    node = rig.start(diagnostics_period_s=60.0)
    assert rig.status("engine") is None

    assert node.set_parameters_atomically([Parameter("diagnostics_period_s", value=0.1)]).successful

    rig.until_engine_says("active")


@pytest.mark.parametrize("output", ["mask", "overlay"])
def test_compressed_forms_come_with_the_stamp_and_frame_of_the_image(rig: Rig, output: str) -> None:
    rig.start()

    message = rig.exchange(
        rig.camera(),
        rig.ros.image(street(), stamp=STAMP),
        rig.ros.listen(CompressedImage, f"/segmentation/front/{output}/compressed"),
    )

    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (*STAMP, "front")
    assert cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2] == (128, 192)
