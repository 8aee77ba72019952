"""Images of any fields and files of any bytes become masks of their size or are refused; nothing else.

`FUZZ=100000 python -m pytest test/node/test_fuzz.py` tries so many of each, other ones each time.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import FrameError
from eseg_ros.node.messages import frame_from_compressed, frame_from_image, image_message
from eseg_ros.runtime.geometry import scaled_size
from eseg_ros.runtime.image import SUPPORTED_ENCODINGS, check_size, layout
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime

if TYPE_CHECKING:
    from conftest import Rig

FUZZ = int(os.environ.get("FUZZ", "0"))
SHORT_FORM = 2000
LIMIT = 200_000  # pixels
MEMORY_LIMIT_KIB = 512 << 10
"""Far above what frames of LIMIT pixels need, far below what forged sizes ask for."""
NODE_MESSAGES = 300

fuzz = settings(
    max_examples=FUZZ or SHORT_FORM,
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
RANDOMS = st.randoms(use_true_random=False)

ENCODINGS = (*SUPPORTED_ENCODINGS, "mono16", "32FC1", "", "BGR8", "bgr8\n", "bildpunkte ä", "x" * 300)
BYTES_A_PIXEL = {"bgr8": 3, "rgb8": 3, "8UC3": 3, "bgra8": 4, "rgba8": 4, "mono8": 1, "8UC1": 1, "nv12": 1}
FORMATS = (
    "jpeg",
    "png",
    "bgr8; jpeg compressed bgr8",
    "mono8; png compressed ",
    "16UC1; compressedDepth png",
    "",
    "tiff",
)
ANY_UINT32 = (0, 1, 2, 3, 41, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
ANY: dict[str, tuple[int, ...] | tuple[str, ...]] = {
    "width": ANY_UINT32,
    "height": ANY_UINT32,
    "step": ANY_UINT32,
    "encoding": ENCODINGS,
}


def fuzzed_image(random: Random) -> Image:
    """An image whose fields mostly fit each other."""
    encoding = random.choice(ENCODINGS)
    width, height = random.randint(0, 40), random.randint(0, 40)
    step = width * BYTES_A_PIXEL.get(encoding, 2) + random.choice((0, 0, 7))
    rows = height * 3 // 2 if encoding == "nv12" else height
    fields = {"width": width, "height": height, "step": step, "encoding": encoding}
    for name in random.sample(sorted(ANY), random.choice((0, 0, 1, 2))):
        fields[name] = random.choice(ANY[name])
    message = Image(is_bigendian=random.randint(0, 255), **fields)
    message.data.frombytes(bytes(max(0, step * rows + random.choice((0, 0, 0, -1, 9, 999)))))
    return stamped(message, random)


def fuzzed_file(random: Random) -> CompressedImage:
    """A JPEG or PNG with bytes changed, cut out or put in, some of them where its size stands."""
    data = bytearray(random.choice(FILES))
    for _ in range(random.choice((0, 1, 1, 2, 20))):
        at = random.randint(0, min(len(data), random.choice((40, 200, len(data)))))
        cut = at + random.choice((0, 0, 1, 2, 50, len(data)))
        data[at:cut] = random.choice(
            (b"", b"\xff", b"\xff\xd9", b"\xff\xda", b"\x00", b"\x7f\xff", bytes(4), b"\xff" * 9)
        )
    message = CompressedImage(format=random.choice(FORMATS))
    message.data.frombytes(bytes(data))
    return stamped(message, random)


def stamped(message: Image | CompressedImage, random: Random) -> Image | CompressedImage:
    message.header.stamp.sec = random.choice((-(2**31), -1, 0, 1_700_000_000, 2**31 - 1))
    message.header.stamp.nanosec = random.choice((0, 999_999_999, 2**32 - 1))
    message.header.frame_id = random.choice(("", "front", "/", "ä" * 100))
    return message


def files() -> Iterator[bytes]:
    """Small files of every kind that cameras and image_transport's plugins write."""
    picture = cv2.resize(np.random.default_rng(1).integers(0, 256, (3, 4, 3), dtype=np.uint8), (40, 30))
    alpha, gray = np.dstack([picture, picture[..., 0]]), picture[..., 0]
    for pixels in (picture, gray):
        for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]):
            yield cv2.imencode(".jpg", pixels, options)[1].tobytes()
    for pixels in (picture, gray, alpha, gray.astype(np.uint16) * 257):
        yield cv2.imencode(".png", pixels)[1].tobytes()
    yield cv2.imencode(".png", gray // 128 * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


FILES = tuple(files())


@pytest.fixture(scope="module")
def runtime(tiny_engine: Path) -> Iterator[Runtime]:
    runtime = create_runtime(load_engine(tiny_engine), threads=1)
    runtime.load(lambda: None)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module", autouse=True)
def bounded_memory(runtime: Runtime) -> Iterator[None]:
    """Whatever was tried in this file took no more memory than such small pictures need."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MEMORY_LIMIT_KIB


def answer(runtime: Runtime, frame: Frame, outputs: Outputs) -> Result | None:
    """What the worker makes of a frame; None if it refuses it."""
    try:
        check_size(frame, LIMIT)
        runtime.submit(0, frame, outputs)
    except FrameError:
        return None
    return runtime.collect(0)


def outputs_for(random: Random) -> Outputs:
    return Outputs(
        color_mask=random.random() < 0.2,
        overlay=random.random() < 0.2,
        confidence=random.random() < 0.2,
        scale=random.choice((1.0, 1.0, 0.5, 0.05)),
    )


def publishable(result: Result) -> None:
    """The message that the node would publish can be made."""
    message = image_message(result.mask, "mono8", result.stamp_ns, result.frame_id)
    assert (message.height, message.width) == result.mask.shape


@fuzz
@given(random=RANDOMS)
def test_an_image_of_any_fields_is_answered_or_refused(runtime: Runtime, random: Random) -> None:
    frame, outputs = frame_from_image(fuzzed_image(random)), outputs_for(random)

    result = answer(runtime, frame, outputs)

    if result is not None:
        found = layout(frame)
        assert result.mask.shape == scaled_size((found.width, found.height), outputs.scale)[::-1]
        publishable(result)


@fuzz
@given(random=RANDOMS)
def test_a_file_of_any_bytes_is_answered_or_refused(runtime: Runtime, random: Random) -> None:
    result = answer(runtime, frame_from_compressed(fuzzed_file(random)), outputs_for(random))

    if result is not None:
        assert 0 < result.mask.size <= LIMIT
        publishable(result)


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (2, 1), (1, 2), (1, LIMIT), (LIMIT, 1), (40_000, 2), (2, 40_000), (449, 443)]
)
def test_an_image_of_any_shape_is_answered_in_every_form(runtime: Runtime, width: int, height: int) -> None:
    frame = Frame(memoryview(bytes(width * height)), "mono8", width, height, width, 0)

    for scale in (1.0, 0.05):
        result = answer(runtime, frame, Outputs(True, True, True, 0.5, 0.5, scale))
        assert result is not None
        assert result.mask.shape == scaled_size((width, height), scale)[::-1]


def good_image() -> Image:
    message = Image(width=96, height=64, step=96, encoding="mono8")
    message.data.frombytes(bytes(96 * 64))
    return message


def good_file() -> CompressedImage:
    message = CompressedImage(format="jpeg")
    message.data.frombytes(FILES[0])
    return message


@pytest.mark.parametrize(
    ("transport", "message_type", "fuzzed"),
    [("raw", Image, fuzzed_image), ("compressed", CompressedImage, fuzzed_file)],
)
def test_the_node_outlives_any_messages_and_accounts_for_each(
    rig: Rig, transport: str, message_type: type, fuzzed: Callable[[Random], Image | CompressedImage]
) -> None:
    node = rig.start(
        cameras__front__transport=transport, cameras__front__reliability="reliable", cameras__front__depth=100
    )
    camera = rig.camera(message_type)
    masks = rig.ros.listen(Image, "/segmentation/front/mask")
    arrived = rig.ros.listen(message_type, "/image", NODE_MESSAGES)
    rig.ros.until(lambda: camera.get_subscription_count() == 2)
    random = Random(5)

    def settled() -> bool:
        counts = {key: int(rig.value("camera front", key) or 0) for key in ("received", "waiting", "in_flight")}
        return counts == {"received": NODE_MESSAGES, "waiting": 0, "in_flight": 0}

    for number in range(NODE_MESSAGES):
        camera.publish(fuzzed(random))
        rig.ros.until(lambda sent=number + 1: len(arrived) == sent)
    rig.ros.until(settled)

    fates = ("published", "dropped_busy", "dropped_stale", "rejected", "failed")
    assert sum(int(rig.value("camera front", key) or 0) for key in fates) == NODE_MESSAGES
    assert (node.state, rig.value("camera front", "failed")) == ("active", "0")
    masks.clear()
    rig.exchange(camera, good_image() if transport == "raw" else good_file(), masks)


def test_larger_images_than_the_parameter_allows_are_refused_until_it_is_raised(rig: Rig) -> None:
    node = rig.start(max_megapixels=0.01)
    camera = rig.camera()
    camera.publish(rig.ros.image(np.zeros((200, 200, 3), np.uint8)))
    rig.ros.until(lambda: "200x200 pixels" in (rig.value("camera front", "last rejection") or ""))

    node.set_parameters([Parameter("max_megapixels", value=0.04)])

    masks = rig.ros.listen(Image, "/segmentation/front/mask")
    rig.exchange(camera, rig.ros.image(np.zeros((200, 200, 3), np.uint8)), masks)
