"""Encodings that this package's own decoder does not know, through cv_bridge where it is installed."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from eseg_ros.errors import UnsupportedEncodingError
from eseg_ros.runtime.image import SUPPORTED_ENCODINGS
from eseg_ros.runtime.types import Frame, Image8

Converter = Callable[[Frame], Frame]

_LOGGER = logging.getLogger(__name__)


def find_converter() -> Converter:
    """What makes frames of encodings that are not in SUPPORTED_ENCODINGS into bgr8 ones, and leaves the others alone.

    Without cv_bridge it leaves all alone, for the runtime to refuse with the list of what is supported.
    """
    try:
        bridge = importlib.import_module("cv_bridge").CvBridge()
    except ModuleNotFoundError:
        return lambda frame: frame
    except Exception as error:  # built for another NumPy or OpenCV it raises all kinds
        _LOGGER.warning("cv_bridge is installed but not usable, and left aside: %s", error)
        return lambda frame: frame
    return lambda frame: frame if frame.encoding in SUPPORTED_ENCODINGS else convert(bridge, frame)


def convert(bridge: Any, frame: Frame) -> Frame:
    """A frame's picture as bgr8, copied, by cv_bridge's rules: 16 bit are scaled to 8, a depth image is no picture.

    Raises:
        UnsupportedEncodingError: cv_bridge cannot do it; the message has its reason, and what needs no cv_bridge.
    """
    message = SimpleNamespace(  # has what cv_bridge reads of an Image, whose data can only be set byte by byte
        height=frame.height,
        width=frame.width,
        encoding=frame.encoding,
        is_bigendian=int(frame.is_bigendian),
        step=frame.step,
        data=frame.data,
    )
    try:
        pixels: Image8 = np.ascontiguousarray(bridge.imgmsg_to_cv2(message, "bgr8"))
    except Exception as error:  # CvBridgeError, and what NumPy says of sizes that do not fit
        raise UnsupportedEncodingError(
            f"encoding {frame.encoding!r} is not supported, nor can cv_bridge make a picture of it ({error}); expected "
            f"one of {', '.join(SUPPORTED_ENCODINGS)}"
        ) from error
    height, width = pixels.shape[:2]
    return Frame(pixels.data.cast("B"), "bgr8", width, height, 3 * width, frame.stamp_ns, frame.frame_id)
