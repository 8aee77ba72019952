"""Conversions between ROS messages and the core's types. No node, no topics: only messages."""

from __future__ import annotations

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from eseg_ros.runtime.image import compressed_encoding
from eseg_ros.runtime.types import Frame, Image8

_NS_PER_S = 1_000_000_000
_LAST_SECOND = 2**31 - 1  # builtin_interfaces/Time holds seconds as int32


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of the stamp's clock; exact."""
    return int(stamp.sec) * _NS_PER_S + int(stamp.nanosec)


def ns_to_stamp(stamp_ns: int) -> Time:
    """The inverse of `stamp_to_ns` for every valid stamp; later times become the last one that a stamp can hold."""
    seconds, nanoseconds = divmod(stamp_ns, _NS_PER_S)
    return Time(sec=min(seconds, _LAST_SECOND), nanosec=nanoseconds)


def frame_from_image(message: Image) -> Frame:
    """A frame that views the message's own bytes; nothing is copied or checked here."""
    return Frame(
        data=memoryview(message.data),
        encoding=message.encoding,
        width=message.width,
        height=message.height,
        step=message.step,
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame_id=message.header.frame_id,
        is_bigendian=bool(message.is_bigendian),
    )


def frame_from_compressed(message: CompressedImage) -> Frame:
    """A frame that views the message's own bytes, still compressed."""
    return Frame(
        data=memoryview(message.data),
        encoding=compressed_encoding(message.format),
        width=0,
        height=0,
        step=0,
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame_id=message.header.frame_id,
    )


def image_message(pixels: Image8, encoding: str, stamp_ns: int, frame_id: str) -> Image:
    """An image message.

    Args:
        pixels: (H, W) or (H, W, C) uint8.
        encoding: sensor_msgs encoding that fits them, e.g. "mono8" or "bgr8".
        stamp_ns: of the frame that the pixels come from.
        frame_id: of that frame.
    """
    pixels = np.ascontiguousarray(pixels)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels[0].nbytes)
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.header.frame_id = frame_id
    message.data.frombytes(pixels.data.cast("B"))  # assigning instead would check the bytes one by one
    return message


def compressed_message(
    pixels: Image8, encoding: str, file_format: str, stamp_ns: int, frame_id: str, quality: int
) -> CompressedImage:
    """A compressed image message with a format as image_transport's plugins write and read it.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
        encoding: sensor_msgs encoding that fits them, "mono8" or "bgr8".
        file_format: "png", which is exact, or "jpeg".
        stamp_ns: of the frame that the pixels come from.
        frame_id: of that frame.
        quality: of a JPEG, 1 to 100.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if file_format == "jpeg" else []
    _, data = cv2.imencode(f".{file_format}", pixels, options)
    message = CompressedImage(format=f"{encoding}; {file_format} compressed {encoding}")
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.header.frame_id = frame_id
    message.data.frombytes(data.data)
    return message
