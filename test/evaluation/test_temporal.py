from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.evaluation.temporal import TemporalConsistency

Image = npt.NDArray[np.uint8]


def scene(shift: int) -> tuple[Image, Image]:
    """A window onto a smooth random texture, 240x160, and a mask that is painted on the texture."""
    import cv2

    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (160, 320, 3)).astype(np.float32), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    mask = np.kron(rng.integers(0, 5, (4, 8), np.uint8), np.ones((40, 40), np.uint8))
    return texture[:, shift : shift + 240], np.ascontiguousarray(mask[:, shift : shift + 240])


def test_the_first_frame_has_no_score() -> None:
    assert np.isnan(TemporalConsistency().update(*scene(0)))


def test_a_mask_that_moves_with_the_scene_is_steady() -> None:
    consistency = TemporalConsistency()
    consistency.update(*scene(0))

    assert consistency.update(*scene(4)) > 0.99


def test_a_mask_that_stands_still_while_the_scene_moves_is_not() -> None:
    consistency = TemporalConsistency()
    (image, mask), (moved, _) = scene(0), scene(12)
    consistency.update(image, mask)

    # Of 40-pixel blocks of 5 classes, 12 columns in 40 are another block's, four fifths of them another class.
    assert consistency.update(moved, mask) == pytest.approx(1 - 12 / 40 * 4 / 5, abs=0.06)


def test_flicker_lowers_the_score_by_its_share_of_the_pixels() -> None:
    consistency = TemporalConsistency()
    image, mask = scene(0)
    consistency.update(image, mask)
    flickering = mask.copy()
    flickering[:80, :120] = 9  # a quarter

    assert consistency.update(image, flickering) == pytest.approx(0.75, abs=0.02)


def test_masks_of_another_size_than_the_image_are_compared_too() -> None:
    consistency = TemporalConsistency()
    image, mask = scene(0)
    consistency.update(image, mask[::2, ::2])

    assert consistency.update(image, mask[::2, ::2]) == 1.0


def test_a_change_of_size_begins_anew() -> None:
    consistency = TemporalConsistency()
    image, mask = scene(0)
    consistency.update(image, mask)

    assert np.isnan(consistency.update(image[:100], mask[:100]))
