from __future__ import annotations

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from eseg_ros.node.messages import (
    compressed_message,
    frame_from_compressed,
    frame_from_image,
    image_message,
    ns_to_stamp,
    stamp_to_ns,
)
from eseg_ros.runtime.image import compressed_encoding


@pytest.mark.parametrize(("sec", "nanosec"), [(0, 0), (0, 1), (1_700_000_000, 999_999_999), (2**31 - 1, 0), (-1, 5)])
def test_a_stamp_survives_nanoseconds_and_back_exactly(sec: int, nanosec: int) -> None:
    stamp = Time(sec=sec, nanosec=nanosec)

    assert ns_to_stamp(stamp_to_ns(stamp)) == stamp


def test_a_broken_stamp_beyond_the_last_second_still_makes_a_message() -> None:
    broken = Time(sec=2**31 - 1, nanosec=2**32 - 1)

    assert ns_to_stamp(stamp_to_ns(broken)).sec == 2**31 - 1


def test_a_frame_views_the_bytes_of_the_image_message() -> None:
    message = Image(height=2, width=2, step=8, encoding="bgr8")
    message.header.stamp = Time(sec=3, nanosec=4)
    message.header.frame_id = "front"
    message.data.frombytes(bytes(range(16)))

    frame = frame_from_image(message)

    assert frame.data.obj is message.data
    assert (frame.encoding, frame.width, frame.height, frame.step) == ("bgr8", 2, 2, 8)
    assert (frame.stamp_ns, frame.frame_id) == (3_000_000_004, "front")


def test_a_frame_views_the_bytes_of_the_compressed_message() -> None:
    message = CompressedImage(format="bgr8; jpeg compressed bgr8")
    message.data.frombytes(b"jpeg")

    frame = frame_from_compressed(message)

    assert frame.data.obj is message.data
    assert frame.encoding == "jpeg"


@pytest.mark.parametrize(
    ("image_format", "encoding"),
    [
        ("jpeg", "jpeg"),
        ("JPG", "jpeg"),
        ("rgb8; jpeg compressed bgr8", "jpeg"),
        ("png", "png"),
        ("mono8; png compressed ", "png"),
        ("16UC1; compressedDepth png", "16UC1; compressedDepth png"),
        ("h264", "h264"),
        ("", ""),
    ],
)
def test_the_compression_is_read_from_the_format(image_format: str, encoding: str) -> None:
    assert compressed_encoding(image_format) == encoding


@pytest.mark.parametrize(("shape", "encoding"), [((3, 5), "mono8"), ((3, 5, 3), "bgr8")])
def test_pixels_become_an_image_message(shape: tuple[int, ...], encoding: str) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)

    message = image_message(pixels, encoding, 5_000_000_006, "front")

    assert (message.height, message.width, message.encoding) == (3, 5, encoding)
    assert message.step * message.height == len(message.data)
    assert bytes(message.data) == pixels.tobytes()
    assert (message.header.stamp, message.header.frame_id) == (Time(sec=5, nanosec=6), "front")


def test_a_view_with_gaps_becomes_an_image_message_without() -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(4, 10)[:, ::2]

    assert bytes(image_message(pixels, "mono8", 0, "").data) == pixels.tobytes()


def test_a_mask_is_compressed_without_loss() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)

    message = compressed_message(mask, "mono8", "png", 5_000_000_006, "front", quality=1)

    assert message.format == "mono8; png compressed mono8"
    assert (message.header.stamp, message.header.frame_id) == (Time(sec=5, nanosec=6), "front")
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, mask)


def test_a_picture_is_compressed_with_the_quality_asked_for() -> None:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), (60, 40))

    good, poor = (compressed_message(smooth, "bgr8", "jpeg", 0, "", quality) for quality in (95, 5))

    assert good.format == "bgr8; jpeg compressed bgr8"
    assert len(poor.data) < len(good.data)
    decoded = cv2.imdecode(np.frombuffer(good.data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize(("encoding", "file_format"), [("mono8", "png"), ("bgr8", "png"), ("bgr8", "jpeg")])
def test_a_compressed_message_is_one_that_the_node_itself_could_read(encoding: str, file_format: str) -> None:
    pixels = np.zeros((4, 6) if encoding == "mono8" else (4, 6, 3), np.uint8)

    frame = frame_from_compressed(compressed_message(pixels, encoding, file_format, 0, "", 90))

    assert frame.encoding == file_format
