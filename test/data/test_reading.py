from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from eseg_ros.data.reading import (
    ANY_IDS,
    DataError,
    LabelCoding,
    identity_coding,
    read_bgr,
    read_frame,
    read_image,
    read_label,
)
from eseg_ros.labels import CAMVID
from eseg_ros.runtime.image import decode

IDS = identity_coding(CAMVID)
COLORS = LabelCoding("colors", {}, {(0, 0, 0): 255, (128, 0, 0): 1, (0, 0, 128): 8})


def test_ids_come_as_they_are_stored(tmp_path: Path) -> None:
    label = np.array([[0, 10], [255, 3]], np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), label)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", IDS), label)


def test_ids_of_unknown_classes_all_come_as_they_are_stored(tmp_path: Path) -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "a.png"), label)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", ANY_IDS), label)


def test_stored_ids_become_class_ids(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 1], [2, 150]], np.uint8))
    coding = LabelCoding("shifted", {0: 255, **{i + 1: i for i in range(150)}}, {})
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", coding), [[255, 0], [1, 149]])


def test_the_indices_of_a_palette_png_are_the_ids(tmp_path: Path) -> None:
    label = np.array([[0, 10], [4, 3]], np.uint8)
    picture = Picture.fromarray(label, mode="P")
    picture.putpalette([value for color in CAMVID.palette for value in color])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", IDS), label)


def test_stored_colors_become_class_ids(tmp_path: Path) -> None:
    colors = np.array([[[128, 0, 0], [0, 0, 128], [0, 0, 0]]], np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), colors[..., ::-1])
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", COLORS), [[1, 8, 255]])


def test_an_unknown_color_is_named_with_its_place(tmp_path: Path) -> None:
    colors = np.zeros((4, 5, 3), np.uint8)
    colors[2, 3] = (1, 2, 3)
    cv2.imwrite(str(tmp_path / "odd.png"), colors[..., ::-1])
    with pytest.raises(DataError, match=r"odd\.png: color \(1, 2, 3\) at x 3, y 2"):
        read_label(tmp_path / "odd.png", COLORS)


def test_unknown_ids_are_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "odd.png"), np.array([[0, 255, 10, 11, 77]], np.uint8))
    with pytest.raises(DataError, match=r"odd\.png: ids \[11, 77\] .* camvid hold \(0 to 10, 255\)"):
        read_label(tmp_path / "odd.png", IDS)


@pytest.mark.parametrize(("coding", "shape"), [(IDS, (4, 4, 3)), (COLORS, (4, 4))])
def test_a_label_of_the_other_kind_is_refused(tmp_path: Path, coding: LabelCoding, shape: tuple[int, ...]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"expected .* 8-bit"):
        read_label(tmp_path / "a.png", coding)


def test_a_label_of_16_bits_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint16))
    with pytest.raises(DataError, match="found uint16"):
        read_label(tmp_path / "a.png", IDS)


def test_a_cut_palette_label_a_missing_one_and_a_text_file_are_named(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((64, 64), np.uint8), mode="P").save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:45])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("cut.png", "missing.png", "text.png"):
        with pytest.raises(DataError, match=name):
            read_label(tmp_path / name, IDS)


def test_a_frame_is_read_as_rgb_and_a_bad_one_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 2, 3), (1, 2, 3), np.uint8))
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [3, 2, 1]
    with pytest.raises(DataError, match=r"b\.png"):
        read_image(tmp_path / "b.png")


def test_an_image_becomes_a_camera_frame_of_its_own_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    frame = read_frame(tmp_path / "a.png", stamp_ns=3)
    np.testing.assert_array_equal(decode(frame), image)
    np.testing.assert_array_equal(read_bgr(tmp_path / "a.png"), image)
    assert (frame.width, frame.height, frame.stamp_ns) == (7, 5, 3)
