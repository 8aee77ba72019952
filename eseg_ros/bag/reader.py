"""Reads bags: what is in them, their messages as they were recorded, and their images as frames."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader, ReaderError

from eseg_ros.bag.writer import COMPRESSED_IMAGE, IMAGE, TYPESTORE
from eseg_ros.errors import BagError
from eseg_ros.runtime.image import compressed_encoding
from eseg_ros.runtime.types import Frame, Image8

IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)


@dataclass(frozen=True, slots=True)
class Topic:
    """A recorded topic.

    Attributes:
        name: e.g. "/camera/image_raw".
        type: e.g. "sensor_msgs/msg/Image".
        count: how many messages the bag holds.
        latched: whether its publisher kept its last message for late subscribers (transient local).
    """

    name: str
    type: str
    count: int
    latched: bool


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message as it lies in the bag.

    Attributes:
        topic: where it was recorded.
        log_time_ns: when it was recorded, nanoseconds.
        data: the serialized message (CDR), byte for byte.
    """

    topic: Topic
    log_time_ns: int
    data: bytes


class BagReader:
    """An open bag; a context manager.

    Args:
        path: a bag's folder, or a single .mcap or .db3 file.

    Attributes:
        topics: by name.
        start_ns: log time of the first message; 0 in an empty bag.

    Raises:
        BagError: no bag there, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise BagError(f"no bag at {path}; expected a bag folder, an .mcap or a .db3 file")
        if path.suffix == ".bag":
            raise BagError(f"{path} is a ROS 1 bag; convert it first: rosbags-convert --src {path} --dst {path.stem}")
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # a cut file makes rosbags fail in many ways, each as fatal
            raise BagError(
                f"the bag {path} cannot be read ({type(error).__name__}: {error}); expected a ROS 2 bag in mcap or "
                "sqlite3. A recording that was cut off may be mended by `ros2 bag reindex` or `mcap recover`"
            ) from error
        self.topics = {
            name: Topic(name, info.msgtype or "", info.msgcount, _latched(info.connections))
            for name, info in self._reader.topics.items()
        }
        self.start_ns: int = self._reader.start_time if self._reader.message_count else 0

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        self._reader.close()

    def topic(self, name: str) -> Topic:
        """The topic called `name`.

        Raises:
            BagError: the bag has no such topic; the message lists those there are.
        """
        if name not in self.topics:
            found = ", ".join(sorted(self.topics)) or "none"
            raise BagError(f"the bag {self.path} has no topic {name}; it has {found}")
        return self.topics[name]

    def image_topic(self, name: str | None = None) -> Topic:
        """The image topic called `name`, or without a name the only one that the bag has.

        Raises:
            BagError: no such topic, it holds no images, or without a name the choice is not clear.
        """
        images = {topic.name: topic for topic in self.topics.values() if topic.type in IMAGE_TYPES}
        if name is None and len(images) == 1:
            return next(iter(images.values()))
        if name in images:
            return images[name]
        problem = f"no image topic {name}" if name else f"{len(images)} image topics; name one with --topic"
        found = "".join(f"\n  {topic.name}  {topic.type}  {topic.count} messages" for topic in images.values())
        others = "".join(f"\n  {topic.name}  {topic.type}" for topic in self.topics.values())
        raise BagError(
            f"the bag {self.path} has {problem}. " + (f"Its image topics:{found}" if found else f"Its topics:{others}")
        )

    def messages(self, topics: Collection[str]) -> Iterator[RecordedMessage]:
        """The messages of `topics` by log time.

        Raises:
            BagError: the bag turns out to be damaged.
        """
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if not connections:
            return
        try:
            for connection, log_time_ns, data in self._reader.messages(connections):
                yield RecordedMessage(self.topics[connection.topic], log_time_ns, data)
        except (ReaderError, OSError, ValueError, struct.error) as error:
            raise BagError(f"the bag {self.path} is damaged: {error}") from error

    def frames(self, topic: str, limit: int | None = None) -> Iterator[Frame]:
        """The images of a topic as frames, at most `limit` of them.

        Raises:
            BagError: the topic does not exist or holds no images, or the bag is damaged.
        """
        self.image_topic(topic)
        return (frame_of(message) for message in islice(self.messages([topic]), limit))


def frame_of(message: RecordedMessage) -> Frame:
    """A recorded Image or CompressedImage as a frame that looks into the message's own bytes.

    Raises:
        BagError: the bytes are not a message of the topic's type.
    """
    try:
        image: Any = TYPESTORE.deserialize_cdr(message.data, message.topic.type)
    except Exception as error:  # foreign bytes make the deserializer fail in many ways
        raise BagError(
            f"a message on {message.topic.name} is no {message.topic.type} ({type(error).__name__}: {error}); "
            "the recording is damaged"
        ) from error
    raw = message.topic.type == IMAGE
    return Frame(
        data=memoryview(image.data),
        encoding=image.encoding if raw else compressed_encoding(image.format),
        width=image.width if raw else 0,
        height=image.height if raw else 0,
        step=image.step if raw else 0,
        stamp_ns=image.header.stamp.sec * 1_000_000_000 + image.header.stamp.nanosec,
        frame_id=image.header.frame_id,
    )


def mono8_pixels(frame: Frame) -> Image8:
    """The pixels of a mask or label. (H, W) uint8, a view of the frame's bytes.

    Raises:
        BagError: another encoding, or not the bytes for it.
    """
    if frame.encoding not in ("mono8", "8UC1") or len(frame.data) != frame.height * frame.step:
        raise BagError(
            f"an image of {frame.width}x{frame.height} {frame.encoding} pixels in {len(frame.data)} bytes is no mask; "
            "expected class ids as mono8"
        )
    return np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.step)[:, : frame.width]


def stamp_of(data: bytes) -> int:
    """The header stamp, in nanoseconds, of a serialized message that begins with a std_msgs/Header.

    CDR: four bytes of encapsulation, the second of which tells the byte order, then int32 seconds and uint32
    nanoseconds (OMG DDSI-RTPS 2.3, 10.2).
    """
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _latched(connections: list[Any]) -> bool:
    profiles = [profile for connection in connections for profile in connection.ext.offered_qos_profiles]
    return any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)
