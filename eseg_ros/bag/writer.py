"""Writes images into a new bag."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from eseg_ros.errors import BagError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
FORMATS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

# Humble's definitions of the image messages and of their parts are those of every later distribution.
TYPESTORE = get_typestore(Stores.ROS2_HUMBLE)
# Metadata version 9 spells QoS profiles in a way that Humble's rosbag2 cannot read; every later one reads 8.
_METADATA_VERSION = 8


class BagWriter:
    """A new bag; a context manager. It is complete once it is closed; left by an error, it is removed.

    Args:
        path: the bag's folder, which must not exist yet.
        storage: "mcap" or "sqlite3".
        zstd: compress the chunks; mcap only. Good for masks, which shrink a hundredfold; camera noise does not.

    Raises:
        BagError: `path` exists already or cannot be made.
    """

    def __init__(self, path: Path, storage: str = "mcap", *, zstd: bool = False) -> None:
        if path.exists():
            raise BagError(f"{path} exists already and is not overwritten; remove it or choose another place")
        self._writer = Writer(path, version=_METADATA_VERSION, storage_plugin=FORMATS[storage])
        if zstd:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Any] = {}
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f"the bag {path} cannot be made: {error}") from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)
        if kind is not None:
            shutil.rmtree(self._writer.path)

    def write_image(
        self, topic: str, image: npt.NDArray[np.uint8], stamp_ns: int, frame_id: str, encoding: str = "bgr8"
    ) -> None:
        """Write a raw image. `image`: (H, W) or (H, W, channels) uint8, as `encoding` says."""
        rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)  # (H, step)
        message = TYPESTORE.types[IMAGE](
            header=_header(stamp_ns, frame_id),
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=rows.reshape(-1),
        )
        self.write_serialized(topic, IMAGE, stamp_ns, TYPESTORE.serialize_cdr(message, IMAGE))

    def write_compressed(self, topic: str, data: bytes, image_format: str, stamp_ns: int, frame_id: str) -> None:
        """Write a compressed image. `data`: a whole file of `image_format`, "jpeg" or "png"."""
        message = TYPESTORE.types[COMPRESSED_IMAGE](
            header=_header(stamp_ns, frame_id), format=image_format, data=np.frombuffer(data, np.uint8)
        )
        self.write_serialized(topic, COMPRESSED_IMAGE, stamp_ns, TYPESTORE.serialize_cdr(message, COMPRESSED_IMAGE))

    def write_serialized(self, topic: str, message_type: str, log_time_ns: int, data: bytes | memoryview) -> None:
        """Write a message that is serialized already."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=TYPESTORE)
        self._writer.write(self._connections[topic], log_time_ns, data)


def _header(stamp_ns: int, frame_id: str) -> object:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = TYPESTORE.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return TYPESTORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
