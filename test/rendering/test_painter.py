"""The painter writes colour and class in one stroke."""

from __future__ import annotations

import numpy as np
import pytest

from eseg_ros.rendering.camera import NEAR, Camera, clip_box, clip_near, orientation
from eseg_ros.rendering.light import Light
from eseg_ros.rendering.painter import Painter, Texture

NOON = Light(
    sun=(0.0, 0.0, 1.0),
    direct=0.0,
    ambient=1.0,
    tint=(1.0, 1.0, 1.0),
    haze=(0.0, 0.0, 0.0),
    visibility=1e9,
    zenith=(0.0, 0.0, 0.0),
    horizon=(0.0, 0.0, 0.0),
    cloud=0.0,
)
"""Light that shows a surface in its own colour."""


@pytest.fixture
def painter() -> Painter:
    """A picture of 200x100 pixels from 1.5 m height straight along the street."""
    camera = Camera(200, 100, 200.0, np.array([0.0, 0.0, 1.5]), orientation(0.0, 0.0, 0.0))
    return Painter(camera, NOON)


def wall(distance: float, width: float) -> np.ndarray:
    """Corners of an upright rectangle across the street, 3 m tall."""
    half = width / 2
    return np.array([[-half, distance, 0.0], [half, distance, 0.0], [half, distance, 3.0], [-half, distance, 3.0]])


def test_a_point_straight_ahead_falls_on_the_middle_of_the_picture(painter: Painter) -> None:
    seen = painter.camera.view(np.array([[0.0, 10.0, 1.5]]))
    np.testing.assert_allclose(painter.camera.project(seen), [[99.5, 49.5]])


@pytest.mark.parametrize(
    ("angles", "point"),
    [((0.1, 0.0, 0.0), "right"), ((0.0, 0.1, 0.0), "up")],
)
def test_turning_the_camera_moves_the_world_the_other_way(angles: tuple[float, float, float], point: str) -> None:
    camera = Camera(200, 100, 200.0, np.zeros(3), orientation(*angles))
    u, v = camera.project(camera.view(np.array([[0.0, 10.0, 0.0]])))[0]
    assert (u < 90) if point == "right" else (v > 60)


def test_rolling_clockwise_turns_the_world_counterclockwise() -> None:
    camera = Camera(200, 100, 200.0, np.zeros(3), orientation(0.0, 0.0, 0.1))
    _, v = camera.project(camera.view(np.array([[2.0, 10.0, 0.0]])))[0]
    assert v < 49


def test_colour_and_class_cover_the_same_pixels(painter: Painter) -> None:
    painter.polygon(painter.camera.view(wall(10.0, 4.0)), (10.0, 20.0, 30.0), 7)
    painter.capsule(np.array([-1.0, 1.0, 8.0]), np.array([1.0, -1.0, 6.0]), (0.2, 0.4), (40.0, 50.0, 60.0), 3)
    painter.panel(wall(5.0, 0.8), Texture(np.full((32, 16, 3), 90, np.uint8)), (0.0, -1.0, 0.0), 5)
    colors = {0: (0, 0, 0), 7: (10, 20, 30), 3: (40, 50, 60), 5: (81, 81, 81)}
    assert set(np.unique(painter.pixels[..., 3])) == set(colors)
    for class_id, color in colors.items():
        np.testing.assert_array_equal(
            np.unique(painter.pixels[painter.pixels[..., 3] == class_id], axis=0), [(*color, class_id)]
        )


def test_a_polygon_that_reaches_behind_the_camera_is_cut_not_turned_over(painter: Painter) -> None:
    left_wall = np.array([[-2.0, -5.0, 0.0], [-2.0, 20.0, 0.0], [-2.0, 20.0, 4.0], [-2.0, -5.0, 4.0]])
    painter.polygon(painter.camera.view(left_wall), (9.0, 9.0, 9.0), 1)
    assert (painter.pixels[:, :70, 3] == 1).mean() > 0.9
    assert not painter.pixels[:, 100:, 3].any()


@pytest.mark.parametrize("pitch", [-0.08, 0.0, 0.08])
def test_a_panel_that_reaches_behind_a_tilted_camera_stays_on_its_side(pitch: float) -> None:
    camera = Camera(200, 100, 200.0, np.array([0.0, 0.0, 1.5]), orientation(0.0, pitch, 0.0))
    painter = Painter(camera, NOON)
    corners = np.array([[4.0, -6.0, 0.0], [4.0, 30.0, 0.0], [4.0, 30.0, 9.0], [4.0, -6.0, 9.0]])
    painter.panel(corners, Texture(np.full((90, 200, 3), 50, np.uint8)), (-1.0, 0.0, 0.0), 1)
    assert painter.pixels[50, 150:, 3].all()
    assert not painter.pixels[:, :100, 3].any()


def test_what_is_seen_through_a_railing_belongs_to_the_fence(painter: Painter) -> None:
    painter.polygon(painter.camera.view(wall(12.0, 8.0)), (200.0, 200.0, 200.0), 1)
    bars = np.zeros((32, 32, 3), np.uint8)
    bars[:, 16:] = 60
    painter.panel(wall(8.0, 2.0), Texture(bars), (0.0, -1.0, 0.0), 7, see_through=True)
    fence = painter.pixels[painter.pixels[..., 3] == 7]
    assert {54, 100} <= set(np.unique(fence[:, 0]))


def test_the_near_plane_keeps_what_lies_beyond_it() -> None:
    triangle = np.array([[0.0, 0.0, NEAR - 1], [1.0, 0.0, NEAR + 1], [-1.0, 0.0, NEAR + 1]])
    cut = clip_near(triangle)
    assert len(cut) == 4
    assert cut[:, 2].min() == pytest.approx(NEAR)


def test_clipping_to_a_box_keeps_the_part_inside() -> None:
    square = np.array([[-50.0, -5.0], [50.0, -5.0], [50.0, 5.0], [-50.0, 5.0]])
    cut = clip_box(square, 10.0)
    np.testing.assert_allclose([cut.min(axis=0), cut.max(axis=0)], [[-10, -5], [10, 5]])
    assert len(clip_box(square + 100.0, 10.0)) == 0


def test_reducing_takes_the_class_of_most_of_four_pixels(painter: Painter) -> None:
    painter.pixels[:2, :2, 3] = [[1, 2], [2, 2]]
    painter.pixels[:2, 2:4, 3] = [[3, 4], [5, 4]]
    painter.pixels[2:4, :2, 3] = [[6, 7], [8, 8]]
    _, label = painter.reduced()
    assert label.shape == (50, 100)
    assert (label[0, 0], label[0, 1], label[1, 0]) == (2, 4, 8)
