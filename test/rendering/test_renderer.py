"""Rendered frames: deterministic, exactly labelled, rich in classes, any size."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.renderer import RenderedFrame, render_drive, render_frame


@pytest.fixture(scope="module")
def drive() -> list[RenderedFrame]:
    """Ten seconds at 2 Hz, in the demo's shape at half its size."""
    return list(render_drive(seed=5, frames=20, rate_hz=2.0, width=240, height=180))


@pytest.mark.parametrize("size", [(64, 64), (97, 161), (161, 97), (480, 360)])
def test_a_frame_has_the_size_and_types_asked_for(size: tuple[int, int]) -> None:
    width, height = size
    frame = render_frame(1, width, height)
    assert frame.image.shape == (height, width, 3)
    assert frame.label.shape == (height, width)
    assert frame.image.dtype == frame.label.dtype == np.uint8


@pytest.mark.parametrize("seed", range(8))
def test_labels_are_class_ids_or_ignored(seed: int) -> None:
    label = render_frame(seed, 120, 90).label
    assert set(np.unique(label)) <= {*range(len(CAMVID)), CAMVID.ignore_id}
    assert np.mean(label == CAMVID.ignore_id) < 0.02


def test_the_same_seed_gives_the_same_frame_in_any_process() -> None:
    here = render_frame(3, 96, 72)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(render_frame, 3, 96, 72).result(timeout=60)
    for again in (there, render_frame(3, 96, 72)):
        np.testing.assert_array_equal(again.image, here.image)
        np.testing.assert_array_equal(again.label, here.label)


def test_every_seed_is_another_street() -> None:
    labels = [render_frame(seed, 96, 72).label for seed in range(6)]
    agreement = [np.mean(a == b) for i, a in enumerate(labels) for b in labels[:i]]
    assert max(agreement) < 0.9


def test_a_drive_is_the_same_each_time_and_another_for_another_seed() -> None:
    first, again, other = (list(render_drive(seed, 2, 10.0, 96, 72)) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, b.label)
        assert not np.array_equal(a.label, c.label)


def test_stamps_follow_the_rate_without_drift() -> None:
    stamps = [frame.stamp_ns for frame in render_drive(1, 4, 30.0, 64, 64)]
    assert stamps == [0, 33_333_333, 66_666_667, 100_000_000]


def test_the_world_stays_while_the_camera_moves() -> None:
    """A tenth of a second moves edges by a few pixels; a cut to another street would change most of the label."""
    frames = list(render_drive(seed=5, frames=12, rate_hz=10.0, width=160, height=120))
    for before, after in pairwise(frames):
        assert np.mean(before.label == after.label) > 0.85
    assert np.mean(frames[0].label == frames[-1].label) < 0.97


def test_all_classes_appear_amply_in_a_drive(drive: list[RenderedFrame]) -> None:
    pixels = np.stack([np.bincount(frame.label.ravel(), minlength=256)[: len(CAMVID)] for frame in drive])
    shown = np.mean(pixels > 10, axis=0)
    share = pixels.sum(axis=0) / sum(frame.label.size for frame in drive)
    for name, frames_with_it, part in zip(CAMVID.names, shown, share, strict=True):
        assert frames_with_it >= 0.25, f"{name} shows in {frames_with_it:.0%} of the frames"
        assert part >= 0.001, f"{name} fills {part:.2%} of the pixels"


def test_no_piece_of_a_class_is_too_small_to_be_named(drive: list[RenderedFrame]) -> None:
    for frame in drive:
        for class_id in range(len(CAMVID)):
            mask = (frame.label == class_id).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            assert stats[:, cv2.CC_STAT_AREA].min() >= 3


def test_edges_of_the_label_lie_on_edges_of_the_image(drive: list[RenderedFrame]) -> None:
    """The outline of the label, moved by three pixels any way, finds weaker edges in the image."""
    shifts = [(0, 0), (0, 3), (0, -3), (3, 0), (-3, 0)]
    strength = np.zeros(len(shifts))
    for frame in drive:
        gray = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        edges = cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
        outline = label_outline(frame.label)
        strength += [np.roll(edges, shift, axis=(0, 1))[outline].mean() for shift in shifts]
    assert strength[0] > 1.3 * strength[1:].max()


def label_outline(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    outline = np.zeros(label.shape, bool)
    outline[:, 1:] |= label[:, 1:] != label[:, :-1]
    outline[1:] |= label[1:] != label[:-1]
    return outline


@pytest.mark.parametrize(("frames", "rate_hz"), [(0, 10.0), (5, 0.0), (5, -1.0)])
def test_a_drive_without_frames_or_rate_is_refused(frames: int, rate_hz: float) -> None:
    with pytest.raises(ValueError, match="at least one frame and a positive rate"):
        render_drive(1, frames, rate_hz, 64, 64)


def test_a_frame_too_small_to_show_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="8x64 pixels; expected at least 32x32"):
        render_frame(1, 8, 64)
