"""Conversions between ROS messages and the core's types. No node, no topics: only messages."""

from __future__ import annotations

import json

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from eseg_ros.engine.manifest import EngineManifest
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


def label_info_message(manifest: EngineManifest) -> String:
    """What the ids in a mask mean, as JSON text.

    `{"engine": NAME, "ignore_id": ID, "classes": [{"id": ID, "name": NAME, "color": [R, G, B]}, ...]}`
    """
    classes = manifest.classes
    labels = [
        {"id": index, "name": name, "color": list(color)}
        for index, (name, color) in enumerate(zip(classes.names, classes.palette, strict=True))
    ]
    return String(data=json.dumps({"engine": manifest.name, "ignore_id": classes.ignore_id, "classes": labels}))
