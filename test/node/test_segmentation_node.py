from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import DeviceError
from eseg_ros.labels import CAMVID
from eseg_ros.node import segmentation_node
from eseg_ros.node.messages import frame_from_image
from eseg_ros.node.segmentation_node import SegmentationNode
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime

if TYPE_CHECKING:
    from conftest import RosGraph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STAMP = (1_700_000_000, 123_456_789)


class Rig:
    """A node on the tiny engine with the camera "front" on /image, and what its diagnostics say."""

    def __init__(self, ros: RosGraph, engine: Path) -> None:
        self.ros = ros
        self._defaults: dict[str, Any] = {
            "engine": str(engine),
            "threads": 1,
            "camera_names": ["front"],
            "cameras__front__image_topic": "image",
            "diagnostics_period_s": 0.1,
            "lazy": False,
        }
        self._reports: list[DiagnosticArray] = ros.listen(DiagnosticArray, "/diagnostics")

    def start(self, stopped: Callable[[], bool] = lambda: False, **values: Any) -> SegmentationNode:
        node = SegmentationNode(
            stopped=stopped,
            context=self.ros.context,
            parameter_overrides=self.ros.overrides(**(self._defaults | values)),
        )
        self.ros.add(node)
        node.autostart()
        return node

    def camera(self, message_type: Any = Image, topic: str = "/image") -> Any:
        """A publisher that the node has found."""
        publisher = self.ros.publisher(message_type, topic)
        self.ros.until(publisher.get_subscription_count)
        return publisher

    def exchange(self, camera: Any, message: Any, answers: list[Any]) -> Any:
        """Publish again and again until an answer comes, which is the return value."""

        def answered() -> bool:
            camera.publish(message)
            return bool(answers)

        self.ros.until(answered)
        return answers[0]

    def status(self, part: str) -> DiagnosticStatus | None:
        """The last status of "engine" or "camera NAME"."""
        statuses = [status for report in self._reports[-1:] for status in report.status]
        return next((status for status in statuses if status.name == f"segmentation: {part}"), None)

    def value(self, part: str, key: str) -> str | None:
        """A value of the last status."""
        status = self.status(part)
        return next((pair.value for pair in status.values if pair.key == key), None) if status else None

    def until_engine_says(self, text: str) -> DiagnosticStatus:
        self.ros.until(lambda: (status := self.status("engine")) and text in status.message)
        status = self.status("engine")
        assert status is not None
        return status


@pytest.fixture
def rig(ros: RosGraph, tiny_engine: Path) -> Rig:
    return Rig(ros, tiny_engine)


def street(height: int = 128, width: int = 192) -> npt.NDArray[np.uint8]:
    """A bgr8 image in the class colours, with noise, whose mask has several classes."""
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


def test_without_autostart_the_node_waits_to_be_configured_and_activated_by_service(rig: Rig) -> None:
    node = rig.start(autostart=False)
    assert node.state == "unconfigured"
    client = rig.ros.peer.create_client(ChangeState, "/segmentation/change_state")
    rig.ros.until(client.service_is_ready)

    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_CONFIGURE, "inactive"),
    ):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        rig.ros.until(future.done)
        assert (future.result().success, node.state) == (True, state)


def test_deactivate_ends_the_flow_and_activate_takes_it_up_again(rig: Rig) -> None:
    node = rig.start()
    camera = rig.camera()

    node.trigger_deactivate()
    rig.ros.until(lambda: not camera.get_subscription_count())
    node.trigger_activate()
    rig.ros.until(camera.get_subscription_count)

    rig.exchange(camera, rig.ros.image(street()), rig.ros.listen(Image, "/segmentation/front/mask"))


def test_cleanup_takes_the_cameras_topics_away(rig: Rig) -> None:
    node = rig.start()
    rig.ros.until(lambda: rig.ros.peer.count_publishers("/segmentation/front/mask"))

    node.trigger_deactivate()
    node.trigger_cleanup()

    rig.ros.until(lambda: not rig.ros.peer.count_publishers("/segmentation/front/mask"))


def missing(engine: Path) -> None:
    engine.unlink()


def cut(engine: Path) -> None:
    onnx = engine.with_suffix(".onnx")
    onnx.write_bytes(onnx.read_bytes()[:-10])


def without_onnx(engine: Path) -> None:
    engine.with_suffix(".onnx").unlink()


def broken_manifest(engine: Path) -> None:
    engine.write_text("{")


def other_input(engine: Path) -> None:
    manifest = json.loads(engine.read_text())
    manifest["input"]["width"] *= 2
    engine.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing, "cannot be read"),
        (cut, "the file is cut or belongs to another engine"),
        (without_onnx, "which cannot be read"),
        (broken_manifest, "not valid JSON"),
        (other_input, "192"),
    ],
)
def test_an_engine_that_cannot_be_used_fails_configure_with_the_reason_and_the_node_lives(
    rig: Rig, make_tiny_engine: Callable[..., Path], damage: Callable[[Path], None], reason: str
) -> None:
    engine = make_tiny_engine()
    good = {path: path.read_bytes() for path in engine.parent.glob("tiny.*")}
    damage(engine)
    node = rig.start(engine=str(engine))

    status = rig.until_engine_says(reason)
    assert (status.level, node.state) == (DiagnosticStatus.ERROR, "unconfigured")

    for path, content in good.items():
        path.write_bytes(content)
    node.autostart()
    assert node.state == "active"
    assert rig.until_engine_says("active").level == DiagnosticStatus.OK


def test_a_camera_without_a_topic_fails_configure_with_what_to_set(rig: Rig) -> None:
    node = rig.start(cameras__front__image_topic="")

    rig.until_engine_says("cameras.front.image_topic is empty: set it")
    node.set_parameters([Parameter("cameras.front.image_topic", value="image")])
    node.autostart()

    assert node.state == "active"


def test_an_unknown_engine_is_answered_with_those_there_are(rig: Rig) -> None:
    rig.start(engine="no_such_engine")

    assert "Engines here:" in rig.until_engine_says("no_such_engine.json").message


def test_fixed_parameters_are_refused_until_cleanup(rig: Rig) -> None:
    node = rig.start()
    change = [Parameter("slots", value=3)]
    assert not node.set_parameters_atomically(change).successful

    node.trigger_deactivate()
    node.trigger_cleanup()

    assert node.set_parameters_atomically(change).successful


class Wrapped:
    """A runtime that is what it wraps, but for what a test lets happen to it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


class LostDevice(Wrapped):
    """Loads, and then fails as a device that falls off the bus."""

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        raise DeviceError("the device is lost")


@pytest.fixture
def lost_device(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every engine loads and then fails; `undo()` mends it."""
    monkeypatch.setattr(segmentation_node, "create_runtime", lambda *options: LostDevice(create_runtime(*options)))
    return monkeypatch


def test_a_failing_engine_unconfigures_the_node_and_configure_mends_it(
    rig: Rig, lost_device: pytest.MonkeyPatch
) -> None:
    node = rig.start()
    camera = rig.camera()

    camera.publish(rig.ros.image(street()))

    assert rig.until_engine_says("the device is lost").level == DiagnosticStatus.ERROR
    assert node.state == "unconfigured"
    lost_device.undo()
    node.autostart()
    rig.exchange(camera, rig.ros.image(street()), rig.ros.listen(Image, "/segmentation/front/mask"))


def test_configure_gives_up_while_an_engine_loads_when_the_process_is_told_to_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, end = threading.Event(), threading.Event()

    class SlowLoading(Wrapped):
        def load(self, notify: Callable[[], None]) -> None:
            loading.set()
            end.wait()

    monkeypatch.setattr(segmentation_node, "create_runtime", lambda *options: SlowLoading(create_runtime(*options)))

    node = rig.start(stopped=loading.is_set)

    assert loading.is_set()
    assert node.state == "unconfigured"
    end.set()
