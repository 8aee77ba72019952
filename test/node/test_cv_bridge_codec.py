"""What our own decoder does not know goes through cv_bridge, here one that stands in for it, as far as it is asked."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sensor_msgs.msg import Image

from eseg_ros.errors import UnsupportedEncodingError
from eseg_ros.node.cv_bridge_codec import find_converter
from eseg_ros.runtime.image import SUPPORTED_ENCODINGS, decode
from eseg_ros.runtime.types import Frame, Image8

if TYPE_CHECKING:
    from conftest import Rig

WIDTH, HEIGHT, PADDING = 5, 3, 6


class CvBridgeError(TypeError):
    """As in cv_bridge."""


class CvBridge:
    """Reads of a message what the real one reads, and knows one encoding, which it scales to 8 bits as the real one."""

    def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> Image8:
        if message.encoding != "mono16":
            raise CvBridgeError(f"[{message.encoding}] is not a color format")
        assert desired_encoding == "bgr8"
        dtype = np.dtype(np.uint16).newbyteorder(">" if message.is_bigendian else "<")
        rows = np.ndarray((message.height, message.step // 2), dtype, message.data)[:, : message.width]
        return np.stack([np.rint(rows / 257).astype(np.uint8)] * 3, axis=-1)


@pytest.fixture
def cv_bridge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("cv_bridge")
    module.CvBridge = CvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    return module


def mono16(pixels: Image8, *, is_bigendian: bool) -> Frame:
    """`pixels` as 16 bits, with padding behind each row."""
    rows = (pixels.astype(np.uint16) * 257).astype(">u2" if is_bigendian else "<u2")
    padded = np.pad(rows.view(np.uint8).reshape(HEIGHT, -1), ((0, 0), (0, PADDING)))
    data = memoryview(padded.tobytes())
    return Frame(data, "mono16", WIDTH, HEIGHT, padded.shape[1], 42, "front", is_bigendian)


@pytest.mark.parametrize("is_bigendian", [False, True])
def test_what_only_cv_bridge_knows_becomes_bgr8_with_its_stamp(cv_bridge: ModuleType, is_bigendian: bool) -> None:
    gray = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 17

    converted = find_converter()(mono16(gray, is_bigendian=is_bigendian))

    assert (converted.encoding, converted.stamp_ns, converted.frame_id) == ("bgr8", 42, "front")
    np.testing.assert_array_equal(decode(converted), np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize("encoding", SUPPORTED_ENCODINGS)
def test_what_our_decoder_knows_never_goes_through_cv_bridge(cv_bridge: ModuleType, encoding: str) -> None:
    frame = Frame(memoryview(b""), encoding, 1, 1, 1, 0)

    assert find_converter()(frame) is frame


def test_what_nobody_knows_is_refused_with_cv_bridges_reason_and_what_is_supported(cv_bridge: ModuleType) -> None:
    with pytest.raises(UnsupportedEncodingError, match=r"'32FC1'.*\[32FC1\] is not a color format.*one of bgr8"):
        find_converter()(Frame(memoryview(bytes(16)), "32FC1", 2, 2, 8, 0))


def test_sizes_that_do_not_fit_are_refused(cv_bridge: ModuleType) -> None:
    with pytest.raises(UnsupportedEncodingError, match="mono16"):
        find_converter()(Frame(memoryview(bytes(16)), "mono16", 2**31, 2**31, 2**31, 0))


def test_without_cv_bridge_the_decoder_refuses_with_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    frame = Frame(memoryview(bytes(16)), "mono16", 2, 2, 4, 0)

    with pytest.raises(UnsupportedEncodingError, match=r"'mono16' is not supported; expected one of bgr8"):
        decode(find_converter()(frame))


def test_a_cv_bridge_built_for_another_numpy_is_left_aside_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise AttributeError("_ARRAY_API not found")

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=broken))
    frame = Frame(memoryview(b""), "mono16", 1, 1, 2, 0)

    assert find_converter()(frame) is frame
    assert "_ARRAY_API not found" in caplog.text


def test_the_node_takes_what_only_cv_bridge_knows(rig: Rig, cv_bridge: ModuleType) -> None:
    rig.start()
    message = Image(width=4, height=2, step=8, encoding="mono16")
    message.data.frombytes(bytes(16))

    mask = rig.exchange(rig.camera(), message, rig.ros.listen(Image, "/segmentation/front/mask"))

    assert (mask.width, mask.height) == (4, 2)
