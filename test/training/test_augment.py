from __future__ import annotations

import cv2
import numpy as np
import pytest

from eseg_ros.labels import CAMVID
from eseg_ros.training.augment import Pasted, augment, random_color_matrix, random_warp
from eseg_ros.training.config import AugmentConfig

IGNORE = CAMVID.ignore_id
PAD = (124.0, 116.0, 104.0)


def blocky_frame(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A frame whose colors are its label: blocks of 20 pixels."""
    ids = np.random.default_rng(1).integers(0, len(CAMVID), (height // 20, width // 20)).astype(np.uint8)
    label = np.kron(ids, np.ones((20, 20), np.uint8))
    return CAMVID.color_table()[label], label


def nearest_ids(image: np.ndarray) -> np.ndarray:
    """Class ids of the nearest class colors, (H, W)."""
    palette = CAMVID.color_table()[: len(CAMVID)].astype(int)
    distance = np.abs(image[..., None, :].astype(int) - palette).sum(-1)
    return distance.argmin(-1)


def test_without_any_change_the_frame_comes_back_as_it_was() -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(120, 160))
    out_image, out_label = augment(image, label, config, np.random.default_rng(0), PAD, IGNORE)
    np.testing.assert_array_equal(out_image, image)
    np.testing.assert_array_equal(out_label, label)


def test_a_mirrored_frame_and_its_label_are_exact_mirror_images() -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(120, 160), flip=1.0)
    out_image, out_label = augment(image, label, config, np.random.default_rng(0), PAD, IGNORE)
    np.testing.assert_array_equal(out_image, image[:, ::-1])
    np.testing.assert_array_equal(out_label, label[:, ::-1])


@pytest.mark.parametrize("seed", range(12))
def test_image_and_label_stay_aligned_under_scale_flip_and_crop(seed: int) -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(96, 128), scale=(0.5, 2.0), flip=0.5)
    image, label = augment(image, label, config, np.random.default_rng(seed), PAD, IGNORE)
    # Bilinear sampling mixes colors only beside a border between blocks; elsewhere every id must be right.
    eroded = np.ones(label.shape, bool)
    for axis in (0, 1):
        for shift in (-1, 1):
            eroded &= np.roll(label, shift, axis) == label
    inner = eroded & (label != IGNORE)
    assert inner.mean() > 0.1
    assert (nearest_ids(image)[inner] == label[inner]).mean() > 0.999


@pytest.mark.parametrize("seed", range(6))
def test_image_and_label_stay_aligned_when_the_frame_turns(seed: int) -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(96, 128), scale=(0.8, 1.5), flip=0.5, rotation=30.0)
    image, label = augment(image, label, config, np.random.default_rng(seed), PAD, IGNORE)
    inner = (cv2.erode(label, np.ones((5, 5))) == cv2.dilate(label, np.ones((5, 5)))) & (label != IGNORE)
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False  # their neighbors are out of sight
    assert inner.mean() > 0.1
    assert (nearest_ids(image)[inner] == label[inner]).all()


def test_a_turn_keeps_the_crops_center_and_all_lengths_and_is_within_its_limit() -> None:
    straight, turned = AugmentConfig(crop=(90, 120)), AugmentConfig(crop=(90, 120), rotation=10.0)
    center = np.array([59.5, 44.5, 1.0])
    angles = []
    for seed in range(50):
        matrix = random_warp((90, 120), turned, np.random.default_rng(seed))
        np.testing.assert_allclose(matrix @ center, center[:2], atol=1e-9)
        np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-12)
        angles.append(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert -10 <= min(angles) < -5
    assert 5 < max(angles) <= 10
    np.testing.assert_allclose(random_warp((90, 120), straight, np.random.default_rng(0)), np.eye(2, 3), atol=1e-12)


def test_a_one_pixel_shift_between_image_and_label_would_be_noticed() -> None:
    image, label = blocky_frame()
    assert (nearest_ids(image) == np.roll(label, 1, 1)).mean() < 0.97


def test_the_center_of_a_scaled_frame_is_the_center_of_the_original() -> None:
    config = AugmentConfig(crop=(240, 320), scale=(2.0, 2.0))
    matrix = random_warp((120, 160), config, np.random.default_rng(0))
    np.testing.assert_allclose(matrix @ [159.5, 119.5, 1.0], [79.5, 59.5])


def test_a_crop_of_an_enlarged_frame_lies_wholly_inside() -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(120, 160), scale=(1.1, 2.0))
    for seed in range(20):
        _, out = augment(image, label, config, np.random.default_rng(seed), PAD, IGNORE)
        assert (out != IGNORE).all()


def test_what_a_shrunk_frame_leaves_free_is_ignored_and_neutral() -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(120, 160), scale=(0.5, 0.5))
    out_image, out_label = augment(image, label, config, np.random.default_rng(3), PAD, IGNORE)
    assert (out_label != IGNORE).sum() == pytest.approx(label.size / 4, rel=0.05)
    corner = out_image[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (np.abs(corner - np.array(PAD)).max(1) <= 1).sum() >= 3


def test_a_frame_is_seen_at_the_size_asked_for_whatever_its_own() -> None:
    config = AugmentConfig(crop=(90, 240))
    matrix = random_warp((120, 160), config, np.random.default_rng(0), size=(90, 240))
    # The outer corners of the crop are those of the frame; pixel centers lie at half coordinates.
    np.testing.assert_allclose(matrix @ [-0.5, -0.5, 1.0], [-0.5, -0.5])
    np.testing.assert_allclose(matrix @ [239.5, 89.5, 1.0], [159.5, 119.5])


def test_color_jitter_of_zero_is_the_identity() -> None:
    image, _ = blocky_frame()
    matrix = random_color_matrix(image, AugmentConfig(crop=(32, 32)), np.random.default_rng(0))
    np.testing.assert_allclose(matrix, np.eye(3, 4), atol=1e-12)


@pytest.mark.parametrize("jitter", ["saturation", "hue"])
def test_saturation_and_hue_leave_gray_alone(jitter: str) -> None:
    image = np.full((4, 4, 3), 90, np.uint8)
    config = AugmentConfig(crop=(32, 32), **{jitter: 0.5 if jitter == "saturation" else 40.0})
    matrix = random_color_matrix(image, config, np.random.default_rng(0))
    np.testing.assert_allclose(matrix @ [90, 90, 90, 1], [90, 90, 90])


def test_contrast_leaves_the_mean_brightness_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    matrix = random_color_matrix(image, AugmentConfig(crop=(32, 32), contrast=0.5), np.random.default_rng(0))
    luma = np.array([0.299, 0.587, 0.114])
    mean = image.reshape(-1, 3).mean(0)
    assert luma @ matrix @ [*mean, 1] == pytest.approx(luma @ mean)


def test_blur_and_noise_change_the_image_only() -> None:
    image, label = blocky_frame()
    config = AugmentConfig(crop=(120, 160), blur=1.0, noise=1.0)
    out_image, out_label = augment(image, label, config, np.random.default_rng(0), PAD, IGNORE)
    assert out_image.dtype == np.uint8
    assert (out_image != image).any()
    np.testing.assert_array_equal(out_label, label)


def test_pasted_classes_lie_over_the_frame_with_their_labels_and_nothing_else_does() -> None:
    image, label = blocky_frame()
    ids = (7, 9)
    other, other_label = image[::-1].copy(), label[::-1].copy()
    config = AugmentConfig(crop=(120, 160))
    pasted = Pasted(other, other_label, ids)
    out_image, out_label = augment(image, label, config, np.random.default_rng(0), PAD, IGNORE, pasted=pasted)
    over = np.isin(other_label, ids)
    assert 0 < over.sum() < over.size
    np.testing.assert_array_equal(out_label, np.where(over, other_label, label))
    np.testing.assert_array_equal(out_image, np.where(over[..., None], other, image))


def test_what_is_pasted_has_a_scale_and_a_place_of_its_own_and_frames_are_left_as_they_are() -> None:
    frame = blocky_frame()
    label = np.zeros_like(frame[1])
    other_label = np.where(np.indices(label.shape)[1] == 80, 7, IGNORE).astype(np.uint8)  # a post
    config = AugmentConfig(crop=(96, 96), scale=(1.0, 2.0))
    places = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pasted = Pasted(frame[0], other_label, [7])
        _, out = augment(frame[0], label, config, rng, PAD, IGNORE, pasted=pasted)
        places.add(tuple(np.flatnonzero((out == 7).any(0))))
    assert len(places) > 10
    assert not label.any()
