from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from eseg_ros.bag.create import IMAGE_TOPIC, LABEL_TOPIC, create_bag, render_bag
from eseg_ros.bag.reader import BagReader, mono8_pixels
from eseg_ros.data.reading import DataError
from eseg_ros.errors import BagError

SIZE = (24, 32)  # rows, columns


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three PNG images, each filled with its own number."""
    return folder_of(tmp_path / "images", *((f"{n}.png", np.full((*SIZE, 3), n, np.uint8)) for n in range(3)))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Three labels, each filled with its own number plus 5."""
    return folder_of(tmp_path / "labels", *((f"{n}.png", np.full(SIZE, n + 5, np.uint8)) for n in range(3)))


def folder_of(folder: Path, *files: tuple[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, image in files:
        cv2.imwrite(str(folder / name), image)
    return folder


def test_images_are_written_in_the_order_of_their_names(tmp_path: Path, images: Path) -> None:
    assert create_bag(tmp_path / "bag", images, None, rate_hz=10) == 3

    with BagReader(tmp_path / "bag") as bag:
        frames = list(bag.frames(IMAGE_TOPIC))
    assert [frame.data[0] for frame in frames] == [0, 1, 2]
    assert {(frame.encoding, frame.width, frame.height, frame.step) for frame in frames} == {("bgr8", 32, 24, 96)}


def test_stamps_follow_the_rate_without_drift(tmp_path: Path, images: Path) -> None:
    create_bag(tmp_path / "bag", images, None, rate_hz=30)

    with BagReader(tmp_path / "bag") as bag:
        stamps = [frame.stamp_ns for frame in bag.frames(IMAGE_TOPIC)]
    assert [stamp - stamps[0] for stamp in stamps] == [0, 33_333_333, 66_666_667]


def test_a_label_has_its_images_stamp_and_the_ids_of_its_file(tmp_path: Path, images: Path, labels: Path) -> None:
    create_bag(tmp_path / "bag", images, labels, rate_hz=10)

    with BagReader(tmp_path / "bag") as bag:
        truth = list(bag.frames(LABEL_TOPIC))
        stamps = [frame.stamp_ns for frame in bag.frames(IMAGE_TOPIC)]
    assert [frame.stamp_ns for frame in truth] == stamps
    assert [(frame.data[0], frame.encoding) for frame in truth] == [(5, "mono8"), (6, "mono8"), (7, "mono8")]


def test_the_indices_of_a_palette_file_are_the_ids(tmp_path: Path, images: Path, labels: Path) -> None:
    ids = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).astype(np.uint8).reshape(SIZE)
    picture = Picture.fromarray(ids, mode="P")
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(labels / "0.png")

    create_bag(tmp_path / "bag", images, labels, rate_hz=10)

    with BagReader(tmp_path / "bag") as bag:
        np.testing.assert_array_equal(mono8_pixels(next(bag.frames(LABEL_TOPIC))), ids)


def test_compressed_images_are_the_files_themselves(tmp_path: Path, images: Path) -> None:
    create_bag(tmp_path / "bag", images, None, rate_hz=10, compressed=True)

    with BagReader(tmp_path / "bag") as bag:
        frame = next(bag.frames(IMAGE_TOPIC))
    assert (bytes(frame.data), frame.encoding) == ((images / "0.png").read_bytes(), "png")


def test_a_rendered_bag_holds_each_frame_with_its_label(tmp_path: Path) -> None:
    render_bag(tmp_path / "bag", seed=1, frames=2, rate_hz=10, width=160, height=120)

    with BagReader(tmp_path / "bag") as bag:
        images, truth = list(bag.frames(IMAGE_TOPIC)), list(bag.frames(LABEL_TOPIC))
    assert [frame.stamp_ns for frame in images] == [frame.stamp_ns for frame in truth]
    assert [(frame.width, frame.height) for frame in [*images, *truth]] == [(160, 120)] * 4


def test_an_image_without_its_label_is_named_before_anything_is_written(
    tmp_path: Path, images: Path, labels: Path
) -> None:
    (labels / "1.png").unlink()

    with pytest.raises(BagError, match=r"1 of 3 images have no label .*1\.png"):
        create_bag(tmp_path / "bag", images, labels, rate_hz=10)
    assert not (tmp_path / "bag").exists()


def test_a_label_of_colors_is_refused_and_leaves_no_half_bag(tmp_path: Path, images: Path, labels: Path) -> None:
    cv2.imwrite(str(labels / "2.png"), np.zeros((*SIZE, 3), np.uint8))

    with pytest.raises(
        DataError, match=r"2\.png: expected class ids in an 8-bit single-channel .* shape \(24, 32, 3\)"
    ):
        create_bag(tmp_path / "bag", images, labels, rate_hz=10)
    assert not (tmp_path / "bag").exists()


def test_a_file_that_is_no_image_is_named(tmp_path: Path, images: Path) -> None:
    (images / "1.png").write_bytes(b"not an image")

    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        create_bag(tmp_path / "bag", images, None, rate_hz=10)


def test_a_bag_that_exists_is_not_overwritten(tmp_path: Path, images: Path) -> None:
    create_bag(tmp_path / "bag", images, None, rate_hz=10)

    with pytest.raises(BagError, match="exists already"):
        create_bag(tmp_path / "bag", images, None, rate_hz=10)


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(BagError, match=r"holds no image; expected files that end in .*\.jpg"):
        create_bag(tmp_path / "bag", tmp_path / "empty", None, rate_hz=10)
