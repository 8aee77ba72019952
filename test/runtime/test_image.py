"""Every encoding is decoded exactly, and what cannot be decoded is refused with the reason."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from eseg_ros.errors import FrameError, UnsupportedEncodingError
from eseg_ros.runtime.cuda.parameters import ENCODINGS
from eseg_ros.runtime.image import SUPPORTED_ENCODINGS, ImageLayout, check_size, decode, is_compressed, layout
from eseg_ros.runtime.types import Frame, Image8

WIDTH, HEIGHT = 22, 12
PADDING = 5
"""Bytes behind each row, of a value that would show."""


@pytest.fixture
def picture() -> Image8:
    """(HEIGHT, WIDTH, 3) BGR, smooth, so that Bayer and chroma subsampling have something to interpolate."""
    small = np.random.default_rng(3).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def raw_frame(rows: Image8, encoding: str, *, height: int = HEIGHT, padding: int = PADDING, cut: int = 0) -> Frame:
    """`rows` (rows, bytes) with padding behind each row but the last, cut by `cut` bytes."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    size = padded.size - padding - cut
    return Frame(memoryview(padded.tobytes())[:size], encoding, WIDTH, height, padded.shape[1], 0)


def uyvy_of(picture: Image8) -> Image8:
    """(HEIGHT, 2 * WIDTH) bytes U Y V Y, chroma of the first of each two pixels."""
    yuv = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV)
    packed = np.empty((HEIGHT, WIDTH // 2, 4), np.uint8)
    packed[..., 0], packed[..., 2] = yuv[:, ::2, 1], yuv[:, ::2, 2]
    packed[..., 1], packed[..., 3] = yuv[:, ::2, 0], yuv[:, 1::2, 0]
    return packed.reshape(HEIGHT, -1)


def nv12_of(picture: Image8) -> Image8:
    """(1.5 * HEIGHT, WIDTH) bytes: Y, then UV interleaved."""
    planar = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
    u, v = planar[HEIGHT:].reshape(2, -1)
    return np.vstack([planar[:HEIGHT], np.stack([u, v], axis=-1).reshape(-1, WIDTH)])


def bayer_of(picture: Image8, pattern: str) -> Image8:
    """(HEIGHT, WIDTH): of each pixel the channel that the pattern, read row by row in a 2x2 tile, names."""
    channel = {"b": 0, "g": 1, "r": 2}
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for position, color in enumerate(pattern):
        y, x = divmod(position, 2)
        mosaic[y::2, x::2] = picture[y::2, x::2, channel[color]]
    return mosaic


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("bgr8", [0, 1, 2]),
        ("8UC3", [0, 1, 2]),
        ("rgb8", [2, 1, 0]),
        ("bgra8", [0, 1, 2, 0]),
        ("rgba8", [2, 1, 0, 0]),
    ],
)
def test_packed_colors_come_back_as_bgr(picture: Image8, encoding: str, channels: list[int]) -> None:
    rows = picture[..., channels].reshape(HEIGHT, -1)
    np.testing.assert_array_equal(decode(raw_frame(rows, encoding)), picture)


def test_bgr8_is_a_view_of_the_frames_own_bytes(picture: Image8) -> None:
    frame = raw_frame(picture.reshape(HEIGHT, -1), "bgr8")
    assert np.shares_memory(decode(frame), np.frombuffer(frame.data, np.uint8))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(picture: Image8, encoding: str) -> None:
    grey = picture[..., 0]
    np.testing.assert_array_equal(decode(raw_frame(grey, encoding)), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("encoding", "order", "conversion"),
    [
        ("yuv422", [0, 1, 2, 3], cv2.COLOR_YUV2BGR_UYVY),
        ("uyvy", [0, 1, 2, 3], cv2.COLOR_YUV2BGR_UYVY),
        ("yuv422_yuy2", [1, 0, 3, 2], cv2.COLOR_YUV2BGR_YUY2),
        ("yuyv", [1, 0, 3, 2], cv2.COLOR_YUV2BGR_YUY2),
    ],
)
def test_yuv422_is_what_opencv_makes_of_it(picture: Image8, encoding: str, order: list[int], conversion: int) -> None:
    rows = uyvy_of(picture).reshape(HEIGHT, -1, 4)[..., order].reshape(HEIGHT, -1)
    expected = cv2.cvtColor(rows.reshape(HEIGHT, WIDTH, 2), conversion)
    np.testing.assert_array_equal(decode(raw_frame(rows, encoding)), expected)


def test_luma_and_chroma_of_yuv422_lie_where_ros_says(picture: Image8) -> None:
    decoded = decode(raw_frame(uyvy_of(picture), "uyvy"))
    assert np.abs(decoded.astype(int) - picture).mean() < 25  # video range against full range; swapped bytes give > 60


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT * 3 // 2], ids=["height of the picture", "height of both planes"])
def test_nv12_is_taken_with_either_height(picture: Image8, height: int) -> None:
    rows = nv12_of(picture)
    expected = cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_NV12)
    np.testing.assert_array_equal(decode(raw_frame(rows, "nv12", height=height)), expected)


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT * 3 // 2])
def test_a_cut_nv12_is_never_taken_for_the_other_convention(picture: Image8, height: int) -> None:
    with pytest.raises(FrameError, match="cut"):
        decode(raw_frame(nv12_of(picture), "nv12", height=height, cut=WIDTH // 2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_named_by_their_first_pixels(pattern: str) -> None:
    color = np.array([30, 120, 220], np.uint8)
    flat = np.broadcast_to(color, (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(decode(raw_frame(bayer_of(flat, pattern), f"bayer_{pattern}8")), flat)


@pytest.mark.parametrize(("encoding", "suffix"), [("jpeg", ".jpg"), ("png", ".png")])
def test_a_compressed_file_is_what_opencv_makes_of_it(picture: Image8, encoding: str, suffix: str) -> None:
    file = cv2.imencode(suffix, picture)[1]
    np.testing.assert_array_equal(decode(file_frame(file.tobytes(), encoding)), cv2.imdecode(file, cv2.IMREAD_COLOR))


def test_a_grey_jpeg_comes_back_as_bgr(picture: Image8) -> None:
    file = cv2.imencode(".jpg", picture[..., 0])[1].tobytes()
    assert decode(file_frame(file, "jpeg")).shape == picture.shape


def test_what_a_driver_appends_to_a_jpeg_does_not_matter(picture: Image8) -> None:
    file = cv2.imencode(".jpg", picture)[1].tobytes()
    np.testing.assert_array_equal(decode(file_frame(file + bytes(5000), "jpeg")), decode(file_frame(file, "jpeg")))


@pytest.mark.parametrize(("encoding", "suffix"), [("jpeg", ".jpg"), ("png", ".png")])
def test_a_file_cut_anywhere_is_refused(picture: Image8, encoding: str, suffix: str) -> None:
    file = cv2.imencode(suffix, picture)[1].tobytes()
    for size in range(0, len(file) - 12, 37):
        with pytest.raises(FrameError):
            decode(file_frame(file[:size], encoding))


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_the_jpeg(picture: Image8) -> None:
    file = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = b"\xff\xe1" + (2 + len(file)).to_bytes(2, "big") + file
    with_thumbnail = file[:2] + thumbnail + file[2:]
    np.testing.assert_array_equal(decode(file_frame(with_thumbnail, "jpeg")), decode(file_frame(file, "jpeg")))
    with pytest.raises(FrameError, match="no end"):
        decode(file_frame(with_thumbnail[:-20], "jpeg"))


def test_a_png_with_a_flipped_bit_is_refused(picture: Image8) -> None:
    file = bytearray(cv2.imencode(".png", picture)[1].tobytes())
    file[len(file) // 2] ^= 1
    with pytest.raises(FrameError, match="corrupt"):
        decode(file_frame(bytes(file), "png"))


def test_a_file_of_another_kind_is_refused(picture: Image8) -> None:
    with pytest.raises(FrameError, match="do not begin like one"):
        decode(file_frame(cv2.imencode(".png", picture)[1].tobytes(), "jpeg"))


def test_an_unknown_encoding_is_refused_with_those_that_are_known(picture: Image8) -> None:
    with pytest.raises(UnsupportedEncodingError) as caught:
        decode(raw_frame(picture[..., 0], "mono16"))
    assert "mono16" in str(caught.value)
    assert all(encoding in str(caught.value) for encoding in SUPPORTED_ENCODINGS)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (4, 0)])
@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "nv12", "bayer_rggb8"])
def test_a_frame_of_no_size_is_refused(encoding: str, width: int, height: int) -> None:
    with pytest.raises(FrameError, match="at least 1x1"):
        decode(Frame(memoryview(bytes(64)), encoding, width, height, 12, 0))


def test_a_step_shorter_than_the_row_is_refused_with_both_numbers() -> None:
    with pytest.raises(FrameError, match=r"step is 11 bytes.* has 12"):
        decode(Frame(memoryview(bytes(64)), "bgr8", 4, 4, 11, 0))


@pytest.mark.parametrize(
    ("encoding", "width", "height", "step"),
    [("bgr8", 4, 3, 26), ("yuyv", 8, 4, 16), ("mono8", 16, 4, 16), ("bayer_grbg8", 16, 4, 16)],
)
def test_cut_data_is_refused_with_the_size_that_is_needed(encoding: str, width: int, height: int, step: int) -> None:
    with pytest.raises(FrameError, match=r"63 bytes.* need 64"):
        decode(Frame(memoryview(bytes(63)), encoding, width, height, step, 0))


@pytest.mark.parametrize("encoding", ["uyvy", "yuyv", "nv12"])
def test_an_odd_width_is_refused_where_pixels_come_in_pairs(encoding: str) -> None:
    with pytest.raises(FrameError, match="even width"):
        decode(Frame(memoryview(bytes(600)), encoding, 5, 4, 20, 0))


def test_a_bayer_image_of_one_row_is_refused() -> None:
    with pytest.raises(FrameError, match="2x2"):
        decode(Frame(memoryview(bytes(64)), "bayer_rggb8", 8, 1, 8, 0))


@pytest.mark.parametrize(
    ("encoding", "channels", "name"),
    [
        ("bgr8", 3, "bgr8"),
        ("8UC3", 3, "bgr8"),
        ("rgba8", 4, "rgba8"),
        ("8UC1", 1, "mono8"),
        ("yuv422", 2, "uyvy"),
        ("yuv422_yuy2", 2, "yuyv"),
        ("bayer_grbg8", 1, "bayer_grbg8"),
    ],
)
def test_the_layout_tells_how_the_bytes_lie(encoding: str, channels: int, name: str) -> None:
    frame = raw_frame(np.zeros((HEIGHT, WIDTH * channels), np.uint8), encoding)
    step = WIDTH * channels + PADDING
    assert layout(frame) == ImageLayout(name, WIDTH, HEIGHT, step, step * HEIGHT - PADDING)


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT * 3 // 2], ids=["height of the picture", "height of both planes"])
def test_the_layout_of_nv12_has_the_pictures_height_and_both_planes_bytes(picture: Image8, height: int) -> None:
    step = WIDTH + PADDING
    expected = ImageLayout("nv12", WIDTH, HEIGHT, step, step * HEIGHT * 3 // 2 - PADDING)
    assert layout(raw_frame(nv12_of(picture), "nv12", height=height)) == expected


def test_bytes_behind_the_image_do_not_belong_to_it() -> None:
    assert layout(Frame(memoryview(bytes(1000)), "mono8", 10, 5, 20, 0)).size == 90


def test_every_encoding_is_compressed_or_one_that_the_kernels_know() -> None:
    frames = [Frame(memoryview(bytes(6 * 64)), encoding, 8, 8, 32, 0) for encoding in SUPPORTED_ENCODINGS]
    assert [frame.encoding for frame in frames if is_compressed(frame)] == ["jpeg", "png"]
    assert {layout(frame).encoding for frame in frames if not is_compressed(frame)} == set(ENCODINGS)


def test_a_compressed_file_has_no_layout() -> None:
    with pytest.raises(UnsupportedEncodingError, match="decode it first"):
        layout(file_frame(b"", "jpeg"))


@pytest.mark.parametrize(("encoding", "suffix"), [("jpeg", ".jpg"), ("png", ".png")])
def test_a_file_of_as_many_pixels_as_are_allowed_passes_and_one_more_is_refused(
    picture: Image8, encoding: str, suffix: str
) -> None:
    frame = file_frame(cv2.imencode(suffix, picture)[1].tobytes(), encoding)
    check_size(frame, WIDTH * HEIGHT)
    with pytest.raises(FrameError, match=f"{WIDTH}x{HEIGHT} pixels"):
        check_size(frame, WIDTH * HEIGHT - 1)


@pytest.mark.parametrize(
    "mode", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_OPTIMIZE, cv2.IMWRITE_JPEG_RST_INTERVAL]
)
def test_the_size_is_found_in_every_kind_of_jpeg(picture: Image8, mode: int) -> None:
    frame = file_frame(cv2.imencode(".jpg", picture, [mode, 1])[1].tobytes(), "jpeg")
    with pytest.raises(FrameError, match=f"{WIDTH}x{HEIGHT} pixels"):
        check_size(frame, 1)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of one row whose header promises more."""
    file = bytearray(cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes())
    file[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return bytes(file)


def jpeg_bomb(width: int, height: int) -> bytes:
    """A JPEG of one block whose header promises more."""
    file = bytearray(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes())
    size = file.index(b"\xff\xc0") + 5
    file[size : size + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(file)


@pytest.mark.parametrize(
    ("encoding", "bomb"), [("png", png_bomb(2**31 - 1, 2**31 - 1)), ("jpeg", jpeg_bomb(65500, 65500))]
)
def test_a_bomb_is_refused_by_its_header_with_the_size_and_the_limit(encoding: str, bomb: bytes) -> None:
    with pytest.raises(FrameError, match=r"megapixels; at most 64 are taken.*max_megapixels"):
        check_size(file_frame(bomb, encoding))


def test_a_raw_image_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(FrameError, match="20000x20000"):
        check_size(Frame(memoryview(b""), "mono8", 20_000, 20_000, 20_000, 0))


@pytest.mark.parametrize(("encoding", "file"), [("png", png_bomb(0, 5)), ("jpeg", jpeg_bomb(5, 0))])
def test_a_file_of_no_size_is_refused(encoding: str, file: bytes) -> None:
    with pytest.raises(FrameError, match="does not tell its size"):
        check_size(file_frame(file, encoding))


def test_fill_bytes_before_a_jpegs_markers_hide_nothing(picture: Image8) -> None:
    file = cv2.imencode(".jpg", picture)[1].tobytes()
    filled = file.replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1)
    with pytest.raises(FrameError, match=f"{WIDTH}x{HEIGHT} pixels"):
        check_size(file_frame(filled, "jpeg"), 1)
    np.testing.assert_array_equal(decode(file_frame(filled, "jpeg")), decode(file_frame(file, "jpeg")))


@pytest.mark.parametrize(
    "forged", [b"\xff" * 1_000_000, b"\xff\xe0\x00\x02" * 250_000, b"\xff\x01" * 500_000, b"\xff\xe0\x00\x00" * 250_000]
)
def test_a_jpeg_of_nothing_but_markers_is_refused(forged: bytes) -> None:
    with pytest.raises(FrameError, match="does not tell its size"):
        check_size(file_frame(b"\xff\xd8\xff\xe0\x00\x02" + forged, "jpeg"))


def file_frame(file: bytes, encoding: str) -> Frame:
    return Frame(memoryview(file), encoding, 0, 0, 0, 0)
