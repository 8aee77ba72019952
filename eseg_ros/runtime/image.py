"""Camera images of every supported encoding: how their bytes lie, and the same as BGR, exactly.

Row steps, both NV12 heights, whole files only; a file's size is read from its header before it is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from eseg_ros.errors import FrameError, UnsupportedEncodingError
from eseg_ros.runtime.types import Frame, Image8

_BAYER = {
    # OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by the first row's.
    "bayer_rggb8": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr8": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg8": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg8": cv2.COLOR_BayerGB2BGR,
}
_RAW: dict[str, tuple[int, int | None]] = {
    # encoding: bytes a pixel in a row, OpenCV's conversion to BGR
    "bgr8": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "yuyv": (2, cv2.COLOR_YUV2BGR_YUY2),
    "uyvy": (2, cv2.COLOR_YUV2BGR_UYVY),
    "nv12": (1, cv2.COLOR_YUV2BGR_NV12),
    **{name: (1, code) for name, code in _BAYER.items()},
}
_ALIASES = {"8UC3": "bgr8", "8UC1": "mono8", "yuv422": "uyvy", "yuv422_yuy2": "yuyv"}
_PAIRS = ("yuyv", "uyvy", "nv12")
_SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
# ITU-T T.81, table B.1. Fill bytes may stand before any marker.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_START_OF_SCAN = 0xDA
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the others define tables
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_END_OF_IMAGE = b"\xff\xd9"
_MAX_JPEG_SEGMENTS = 4096
"""Before the first scan; a file with a color profile has some 300. Without a limit a forged file would take seconds."""
_PNG_SIZE = slice(16, 24)  # in IHDR, which comes first

MAX_PIXELS = 64_000_000
"""What a frame may have unless another limit is set."""

SUPPORTED_ENCODINGS = (*_RAW, *_ALIASES, *_SIGNATURES)


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """How a picture lies in the bytes of a raw frame.

    Attributes:
        encoding: the one of several names that `eseg_ros.runtime.cuda.parameters.ENCODINGS` has.
        width: pixels.
        height: pixels of the picture; nv12 has half as many rows of UV behind them.
        step: bytes from one row to the next.
        size: bytes from the first pixel to the end of the last; the frame has at least as many.
    """

    encoding: str
    width: int
    height: int
    step: int
    size: int


def is_compressed(frame: Frame) -> bool:
    """Whether the frame is a whole file, whose picture has no layout before it is decoded."""
    return frame.encoding in _SIGNATURES


def check_size(frame: Frame, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a frame of too many pixels before anything is allocated for it: of a compressed one the header tells.

    Raises:
        FrameError: there are more than `max_pixels`, or the header of a compressed file is no such.
    """
    width, height = _file_size(frame) if is_compressed(frame) else (frame.width, frame.height)
    if width * height > max_pixels:
        raise FrameError(
            f"the image has {width}x{height} pixels, which is {width * height / 1e6:.1f} megapixels; at most "
            f"{max_pixels / 1e6:g} are taken: is this the right topic? A larger camera needs a higher max_megapixels"
        )


def layout(frame: Frame) -> ImageLayout:
    """Check a raw frame without touching its pixels.

    Raises:
        UnsupportedEncodingError: an encoding that is not in SUPPORTED_ENCODINGS, or a compressed one.
        FrameError: sizes that do not fit each other or the data.
    """
    if is_compressed(frame):
        raise UnsupportedEncodingError(f"a {frame.encoding} file has no layout; decode it first")
    encoding = _ALIASES.get(frame.encoding, frame.encoding)
    if encoding not in _RAW:
        raise UnsupportedEncodingError(
            f"encoding {frame.encoding!r} is not supported; expected one of {', '.join(SUPPORTED_ENCODINGS)}"
        )
    if frame.width <= 0 or frame.height <= 0:
        raise FrameError(f"the image has {frame.width}x{frame.height} pixels; expected at least 1x1")
    if encoding in _PAIRS and frame.width % 2:
        raise FrameError(f"{frame.encoding} has pairs of pixels; expected an even width, found {frame.width}")
    if encoding in _BAYER and min(frame.width, frame.height) < 2:
        raise FrameError(f"a Bayer image needs at least 2x2 pixels; found {frame.width}x{frame.height}")
    row_bytes = frame.width * _RAW[encoding][0]
    if frame.step < row_bytes:
        raise FrameError(
            f"step is {frame.step} bytes, but a row of {frame.width} {frame.encoding} pixels has {row_bytes}; "
            "the driver's width, encoding or step is wrong"
        )
    height = _nv12_height(frame) if encoding == "nv12" else frame.height
    needed = _needed_bytes(frame.step, _rows(encoding, height), row_bytes)
    if len(frame.data) < needed:
        raise FrameError(
            f"the image has {len(frame.data)} bytes; {frame.width}x{frame.height} {frame.encoding} pixels with step "
            f"{frame.step} need {needed}: the message is cut"
        )
    return ImageLayout(encoding, frame.width, height, frame.step, needed)


def decode(frame: Frame) -> Image8:
    """The frame as (H, W, 3) uint8 BGR; for bgr8 a view of the frame's own bytes, whose rows may be padded.

    Raises:
        UnsupportedEncodingError: an encoding that is not in SUPPORTED_ENCODINGS.
        FrameError: sizes that do not fit each other or the data, or a compressed file that is cut or corrupt.
    """
    if is_compressed(frame):
        return _decode_file(frame)
    found = layout(frame)
    channels, conversion = _RAW[found.encoding]
    rows = _rows(found.encoding, found.height)
    shape = (rows, found.width) if channels == 1 else (rows, found.width, channels)
    strides = (found.step, 1) if channels == 1 else (found.step, channels, 1)
    data = np.frombuffer(frame.data, np.uint8)
    pixels = np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)
    if conversion is None:
        return pixels
    image: Image8 = cv2.cvtColor(pixels, conversion)
    return image


def _nv12_height(frame: Frame) -> int:
    """Height of the picture; the frame's height is that or, with some drivers, both planes'."""
    size = len(frame.data)
    both_planes = frame.height + frame.height // 2
    if frame.height % 2 == 0 and size >= _needed_bytes(frame.step, both_planes, frame.width):
        return frame.height
    if frame.height % 3 == 0 and _needed_bytes(frame.step, frame.height, frame.width) <= size <= (
        frame.step * frame.height  # more would be the other convention, cut
    ):
        return frame.height // 3 * 2
    raise FrameError(
        f"nv12 of {frame.width}x{frame.height} pixels, step {frame.step}, has {size} bytes; expected an even "
        f"height with {frame.step * both_planes} bytes, or a height of 1.5 times the picture's with "
        f"{frame.step * frame.height}: the message is cut or its sizes are wrong"
    )


def _rows(encoding: str, height: int) -> int:
    """Rows of bytes that a picture of `height` pixels has."""
    return height // 2 * 3 if encoding == "nv12" else height


def _needed_bytes(step: int, rows: int, row_bytes: int) -> int:
    """The last row need not be padded."""
    return step * (rows - 1) + row_bytes


def _decode_file(frame: Frame) -> Image8:
    """A whole JPEG or PNG. OpenCV would decode the beginning of a cut JPEG and leave the rest grey."""
    data = np.frombuffer(frame.data, np.uint8)
    _check_signature(frame)
    if frame.encoding == "jpeg" and not _is_whole_jpeg(frame.data):
        raise FrameError(f"the jpeg file of {len(data)} bytes has no end: the message is cut")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FrameError(f"the {frame.encoding} file of {len(data)} bytes cannot be decoded: {error.err}") from error
    if image is None:
        raise FrameError(f"the {frame.encoding} file of {len(data)} bytes is cut or corrupt and cannot be decoded")
    decoded: Image8 = image
    return decoded


def _check_signature(frame: Frame) -> None:
    signature = _SIGNATURES[frame.encoding]
    if frame.data[: len(signature)] != signature:
        raise FrameError(f"{len(frame.data)} bytes that should be a {frame.encoding} file do not begin like one")


def _file_size(frame: Frame) -> tuple[int, int]:
    """(width, height) by a compressed file's header."""
    _check_signature(frame)
    size = _png_size(frame.data) if frame.encoding == "png" else _jpeg_size(frame.data)
    if size is None or min(size) == 0:
        raise FrameError(
            f"the {frame.encoding} file of {len(frame.data)} bytes does not tell its size: it is cut or corrupt"
        )
    return size


def _png_size(data: memoryview) -> tuple[int, int] | None:
    if bytes(data[12:16]) != b"IHDR" or len(data) < _PNG_SIZE.stop:
        return None
    size = data[_PNG_SIZE]
    return int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    for marker, start in _jpeg_segments(data):
        if marker in _START_OF_FRAME:
            height, width = data[start + 3 : start + 5], data[start + 5 : start + 7]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
    return None


def _is_whole_jpeg(data: memoryview) -> bool:
    """Whether the end-of-image marker follows the start of the scan.

    The segments before it are stepped over, because a thumbnail in one of them has an end of its own; in the scan the
    marker's bytes cannot occur otherwise. What drivers append to fill their buffers does not matter.
    """
    for marker, start in _jpeg_segments(data):
        if marker == _START_OF_SCAN:
            return bytes(data).find(_END_OF_IMAGE, start) >= 0
    return False


def _jpeg_segments(data: memoryview) -> Iterator[tuple[int, int]]:
    """(marker, offset of what follows it) of each segment up to the first scan, as far as they are well formed.

    Only files are followed that libjpeg reads in the same way: where it would skip bytes in search of the next marker,
    this ends.
    """
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.match(data, position)
        if found is None:
            return
        marker, position = found[1][0], found.end()
        yield marker, position
        if marker == _START_OF_SCAN:
            return
        if marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(data[position : position + 2], "big")
            if length < 2:
                return
            position += length


def compressed_encoding(image_format: str) -> str:
    """ "jpeg" or "png" for the formats that cameras and image_transport write, e.g. "rgb8; jpeg compressed bgr8".

    Any other format comes back as it is, for the decoder to refuse by name; so does compressedDepth, which puts a
    header before its PNG.
    """
    words = image_format.lower()
    if "compresseddepth" in words:
        return image_format
    if "jpeg" in words or "jpg" in words:
        return "jpeg"
    return "png" if "png" in words else image_format
