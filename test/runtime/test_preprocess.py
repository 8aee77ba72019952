"""The input tensor holds what the manifest says, written where the engine reads it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.engine.manifest import InputSpec
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.types import Image8

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec_of(color_order: str = "rgb", resize: str = "stretch") -> InputSpec:
    return InputSpec("image", 96, 64, mean=MEAN, std=STD, color_order=color_order, resize=resize)


def filled(image: Image8, spec: InputSpec) -> npt.NDArray[np.float32]:
    """The tensor after one image; NaN where nothing was written."""
    tensor = np.full((1, 3, spec.height, spec.width), np.nan, np.float32)
    Preprocessor(spec)(image, tensor)
    return tensor


def normalized(image: Image8, color_order: str) -> npt.NDArray[np.float64]:
    """The definition. (H, W, 3) BGR -> (1, 3, H, W)."""
    ordered = image[..., ::-1] if color_order == "rgb" else image
    return ((ordered / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)[None]


@pytest.fixture
def image() -> Image8:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
def test_an_image_of_the_inputs_size_is_ordered_and_normalized(image: Image8, color_order: str) -> None:
    np.testing.assert_allclose(filled(image, spec_of(color_order)), normalized(image, color_order), atol=1e-5)


@pytest.mark.parametrize("size", [(33, 17), (192, 128), (97, 63), (1, 1)])
def test_another_size_is_resized_bilinearly(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    resized = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(filled(image, spec_of()), normalized(resized, "rgb"), atol=1e-5)


def test_resizing_keeps_half_pixel_centres() -> None:
    ramp = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)  # 48 wide
    expected = np.interp((np.arange(96) + 0.5) / 2 - 0.5, np.arange(48), np.arange(0, 240, 5))
    red = filled(ramp, spec_of())[0, 0, 10] * STD[0] + MEAN[0]
    np.testing.assert_allclose(red * 255, expected, atol=0.51)  # resized in 8 bits


def test_rows_may_be_padded(image: Image8) -> None:
    padded = np.zeros((64, 100, 3), np.uint8)
    padded[:, :96] = image
    np.testing.assert_array_equal(filled(padded[:, :96], spec_of()), filled(image, spec_of()))


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((48, 16), slice(16, 48), slice(0, 96)), ((32, 64), slice(0, 64), slice(32, 64))],
    ids=["wide", "tall"],
)
def test_letterbox_surrounds_the_image_with_the_mean(size: tuple[int, int], rows: slice, columns: slice) -> None:
    image = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    expected = np.zeros((1, 3, 64, 96))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    expected[:, :, rows, columns] = normalized(resized, "rgb")
    np.testing.assert_allclose(filled(image, spec_of(resize="letterbox")), expected, atol=1e-5)


def test_images_of_several_sizes_take_turns_in_one_tensor() -> None:
    rng = np.random.default_rng(3)
    spec = spec_of(resize="letterbox")
    preprocess, tensor = Preprocessor(spec), np.zeros((1, 3, 64, 96), np.float32)
    for size in ((96, 64), (10, 64), (96, 5), (96, 64), (10, 64)):
        image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        preprocess(image, tensor)
        np.testing.assert_array_equal(tensor, filled(image, spec))
