"""The preprocess kernel, built for the host, gives OpenCV's pixels, resized as PyTorch and NumPy would in float."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eseg_ros.engine.manifest import InputSpec
from eseg_ros.runtime.cuda.parameters import ENCODINGS, PREPROCESS
from eseg_ros.runtime.geometry import Placement, place
from eseg_ros.runtime.image import decode, layout
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.types import Frame, Image8

from .host_build import image_parameters, run_on_host

Floats = npt.NDArray[np.float32]

BYTES_A_PIXEL = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "yuyv": 2, "uyvy": 2}
PAIRED = ("yuyv", "uyvy", "nv12")
BAYER = tuple(encoding for encoding in ENCODINGS if encoding.startswith("bayer"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTH, HEIGHT = 96, 64


def noise_frame(encoding: str, width: int, height: int, *, padding: int = 5, seed: int = 0, filler: int = 0) -> Frame:
    """Random bytes as a frame whose rows, but for the last, are padded with `filler`."""
    rows = height * 3 // 2 if encoding == "nv12" else height
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, width * BYTES_A_PIXEL.get(encoding, 1)), np.uint8)
    padded = np.pad(pixels, ((0, 0), (0, padding)), constant_values=filler)
    data = memoryview(padded.tobytes())[: padded.size - padding]
    return Frame(data, encoding, width, height, padded.shape[1], 0)


@dataclass(frozen=True)
class Target:
    """What is made of an image; nothing is scaled or moved unless the test says so."""

    width: int
    height: int
    placed: Placement | None = None
    rgb: bool = False
    half: bool = False
    scale: tuple[float, float, float] = (1, 1, 1)
    offset: tuple[float, float, float] = (0, 0, 0)


def preprocessed(frame: Frame, target: Target) -> npt.NDArray[np.floating]:
    """(3, height, width) as the kernel fills it; float16 or float32."""
    guard = 7
    shape = (3, target.height, target.width)
    memory = np.full(3 * target.height * target.width + 2 * guard, np.nan, np.float16 if target.half else np.float32)
    tensor = memory[guard:-guard]
    placed = target.placed or Placement(0, 0, target.width, target.height)
    parameters = np.zeros((), PREPROCESS)
    parameters["image"] = image_parameters(frame)
    parameters["tensor"] = tensor.ctypes.data
    parameters["tensor_width"], parameters["tensor_height"] = target.width, target.height
    parameters["left"], parameters["top"] = placed.left, placed.top
    parameters["placed_width"], parameters["placed_height"] = placed.width, placed.height
    parameters["half"], parameters["rgb"] = target.half, target.rgb
    parameters["scale"], parameters["offset"] = target.scale, target.offset
    run_on_host("eseg_preprocess", parameters)
    assert np.isnan(memory[:guard]).all()
    assert np.isnan(memory[-guard:]).all()
    return tensor.reshape(shape)


def resized(image: Image8, width: int, height: int) -> npt.NDArray[np.float64]:
    """The definition: linear between pixel centres, along x, then y. (H, W, 3) -> (3, height, width)."""
    planes = resized_lines(image.astype(np.float64).transpose(2, 0, 1), width)  # (3, H, width)
    return resized_lines(planes.transpose(0, 2, 1), height).transpose(0, 2, 1)


def resized_lines(planes: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """(C, lines, source) -> (C, lines, size)."""
    source = planes.shape[2]
    position = (np.arange(size) + 0.5) * source / size - 0.5
    lines = [np.interp(position, np.arange(source), line) for line in planes.reshape(-1, source)]
    return np.reshape(lines, (*planes.shape[:2], size))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("size", [(64, 48), (22, 12), (2, 2), (4, 2), (130, 6)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_exactly_the_pixels_that_opencv_gives(
    encoding: str, size: tuple[int, int], padding: int
) -> None:
    frame = noise_frame(encoding, *size, padding=padding)
    np.testing.assert_array_equal(preprocessed(frame, Target(*size)), decode(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(21, 13), (3, 3), (5, 4), (4, 5), (2, 7), (7, 2), (67, 33)], ids=str)
@pytest.mark.parametrize("encoding", [encoding for encoding in ENCODINGS if encoding not in PAIRED])
def test_sizes_may_be_odd(encoding: str, size: tuple[int, int]) -> None:
    frame = noise_frame(encoding, *size)
    np.testing.assert_array_equal(preprocessed(frame, Target(*size)), decode(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 1), (640, 1)], ids=str)
@pytest.mark.parametrize("encoding", [encoding for encoding in ENCODINGS if encoding not in (*PAIRED, *BAYER)])
def test_images_of_one_row_or_column(encoding: str, size: tuple[int, int]) -> None:
    frame = noise_frame(encoding, *size)
    np.testing.assert_array_equal(preprocessed(frame, Target(*size)), decode(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("encoding", ["yuyv", "uyvy"])
def test_pairs_of_pixels_in_one_row(encoding: str) -> None:
    frame = noise_frame(encoding, 10, 1)
    np.testing.assert_array_equal(preprocessed(frame, Target(10, 1)), decode(frame).transpose(2, 0, 1))


def test_every_color_of_yuv_is_opencvs() -> None:
    # Every luma with chroma in steps of 5, and at the ends of the range.
    chroma = np.r_[0:256:5, 1, 127, 128, 254].astype(np.uint8)
    pairs = np.empty((len(chroma) ** 2, 128, 4), np.uint8)
    pairs[..., 0], pairs[..., 2] = np.arange(0, 256, 2), np.arange(1, 256, 2)
    pairs[..., 1], pairs[..., 3] = (plane.reshape(-1, 1) for plane in np.meshgrid(chroma, chroma))
    frame = Frame(memoryview(pairs.tobytes()), "yuyv", 256, len(pairs), 512, 0)
    np.testing.assert_array_equal(preprocessed(frame, Target(256, len(pairs))), decode(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("height", [12, 18], ids=["height of the picture", "height of both planes"])
def test_nv12_with_either_height(height: int) -> None:
    frame = noise_frame("nv12", 22, 12)
    frame = Frame(frame.data, "nv12", 22, height, frame.step, 0)
    assert layout(frame).height == 12
    np.testing.assert_array_equal(preprocessed(frame, Target(22, 12)), decode(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("target", [(31, 17), (8, 6), (44, 24)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_lies_between_the_rows_is_never_seen(encoding: str, target: tuple[int, int]) -> None:
    tensors = [preprocessed(noise_frame(encoding, 22, 12, filler=filler), Target(*target)) for filler in (0, 255)]
    np.testing.assert_array_equal(*tensors)


@pytest.mark.parametrize("target", [(44, 24), (11, 6), (31, 17), (7, 50), (1, 1), (200, 3)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_resized_after_it_is_decoded(encoding: str, target: tuple[int, int]) -> None:
    frame = noise_frame(encoding, 22, 12)
    np.testing.assert_allclose(preprocessed(frame, Target(*target)), resized(decode(frame), *target), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    target=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_any_size_is_resized_to_any_size_without_rounding(size: tuple[int, int], target: tuple[int, int]) -> None:
    frame = noise_frame("bgr8", *size)
    np.testing.assert_allclose(preprocessed(frame, Target(*target)), resized(decode(frame), *target), atol=1e-4)


def test_positions_are_exact_in_the_largest_images() -> None:
    # float32 would place the last columns of so wide an image a thousandth of a pixel beside their place.
    frame = noise_frame("mono8", 16384, 2)
    np.testing.assert_allclose(
        preprocessed(frame, Target(12001, 2)), resized(decode(frame), 12001, 2), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("size", [(192, 128), (33, 17), (97, 63), (480, 360)], ids=str)
def test_the_resized_image_is_opencvs_within_a_level(size: tuple[int, int]) -> None:
    frame = noise_frame("bgr8", *size)
    expected = cv2.resize(decode(frame), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocessed(frame, Target(WIDTH, HEIGHT)), expected, atol=1)


@pytest.mark.parametrize("rgb", [True, False], ids=["RGB", "BGR"])
def test_channels_are_ordered_then_scaled_and_moved(rgb: bool) -> None:
    frame = noise_frame("bgr8", WIDTH, HEIGHT)
    scale, offset = np.float32([0.017, 1 / 3, 2]), np.float32([-2.1, 0.7, 5])
    planes = decode(frame).transpose(2, 0, 1)[:: -1 if rgb else 1].astype(np.float32)
    expected = planes * scale[:, None, None] + offset[:, None, None]
    tensor = preprocessed(frame, Target(WIDTH, HEIGHT, rgb=rgb, scale=tuple(scale), offset=tuple(offset)))
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("size", [(96, 64), (192, 128), (160, 40), (60, 120), (33, 97)], ids=str)
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_tensor_is_that_of_the_cpu_within_a_level(resize: str, size: tuple[int, int]) -> None:
    frame = noise_frame("bgr8", *size)
    spec = InputSpec("image", WIDTH, HEIGHT, mean=MEAN, std=STD, resize=resize)
    expected = np.empty((1, 3, HEIGHT, WIDTH), np.float32)
    Preprocessor(spec)(decode(frame), expected)
    scale = tuple(1 / (255 * std) for std in STD)
    offset = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
    tensor = preprocessed(frame, Target(WIDTH, HEIGHT, place(size, spec), rgb=True, scale=scale, offset=offset))
    np.testing.assert_allclose(tensor, expected[0], atol=1.01 * max(scale))


@pytest.mark.parametrize(
    "placed",
    [Placement(0, 16, 96, 32), Placement(23, 0, 50, 64), Placement(95, 63, 1, 1)],
    ids=["wide", "tall", "a pixel"],
)
def test_under_letterbox_the_rest_is_0(placed: Placement) -> None:
    frame = noise_frame("bgr8", 40, 30)
    tensor = preprocessed(frame, Target(WIDTH, HEIGHT, placed, offset=(9, 9, 9)))
    rectangle = np.s_[:, placed.top : placed.top + placed.height, placed.left : placed.left + placed.width]
    alone = preprocessed(frame, Target(placed.width, placed.height, offset=(9, 9, 9)))
    np.testing.assert_array_equal(tensor[rectangle], alone)
    tensor[rectangle] = 0
    assert not tensor.any()


@pytest.mark.parametrize(
    "scale",
    [1 / 58, 1 / 3, 257.3, 1e-4, 3e-7, 2.0**-25, 1e-9, -0.01],
    ids=["as normalized", "thirds", "overflow", "small", "subnormal", "ties of subnormals", "vanishing", "negative"],
)
def test_half_precision_is_float_rounded_to_the_nearest_even(scale: float) -> None:
    frame = noise_frame("bgr8", 33, 21)
    as_float, as_half = (
        preprocessed(frame, Target(80, 50, half=half, scale=(scale, scale / 7, 3 * scale))) for half in (False, True)
    )
    with np.errstate(over="ignore"):
        expected = as_float.astype(np.float16)
    np.testing.assert_array_equal(as_half.view(np.uint16), expected.view(np.uint16))
