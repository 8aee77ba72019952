"""The sky, its clouds, and the hazy skyline at the end of the street."""

from __future__ import annotations

import cv2
import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import Camera, FloatArray
from eseg_ros.rendering.light import Color, Light
from eseg_ros.rendering.painter import Painter
from eseg_ros.rendering.textures import noise, to_bytes

SKY = CAMVID.names.index("sky")
BUILDING = CAMVID.names.index("building")
TREE = CAMVID.names.index("tree")

GRID = 24
"""Painted pixels between two points where the sky is computed; it is smooth in between."""
FAR = 190.0
"""Distance of the skyline, metres."""


def paint_sky(painter: Painter, clouds: tuple[float, float]) -> None:
    """Fill the picture with sky; `clouds` shifts the cloud pattern."""
    camera, light = painter.camera, painter.light
    rays = _rays(camera)
    rise = np.clip(rays[..., 2], 0.0, 1.0)
    height = np.clip(rise / 0.5, 0, 1)[..., None] ** 0.7
    color = np.array(light.horizon) * (1 - height) + np.array(light.zenith) * height
    glow = np.clip(rays @ np.array(light.sun), 0, 1)[..., None] ** 24 * light.direct
    color = color + glow * np.array([120.0, 150.0, 170.0])
    color = _clouded(color, rays, light, clouds)
    coarse = to_bytes(color)
    sky = cv2.resize(coarse, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    cv2.merge([*cv2.split(sky), np.full(sky.shape[:2], SKY, np.uint8)], painter.pixels)


def paint_skyline(painter: Painter, blocks: list[tuple[float, float, float, bool]]) -> None:
    """Paint what closes the view beyond the last house.

    Args:
        blocks: direction to the right of the street (radians), width and height (metres), and whether it is a
            clump of trees rather than a building.
    """
    camera, light = painter.camera, painter.light
    for azimuth, width, height, green in blocks:
        middle = camera.position + np.array([np.sin(azimuth), np.cos(azimuth), 0.0]) * FAR
        side = np.array([np.cos(azimuth), -np.sin(azimuth), 0.0]) * width / 2
        color: Color = (52, 84, 66) if green else (112, 122, 138)
        shape = _dome() if green else _block()
        corners = middle + shape[:, :1] * side + shape[:, 1:] * np.array([0.0, 0.0, height])
        corners[:, 2] -= camera.position[2]
        painter.polygon(
            camera.view(corners),
            light.lit(color, (0.0, -1.0, 0.0), FAR * 0.8),
            TREE if green else BUILDING,
            convex=False,
        )


def random_skyline(rng: np.random.Generator) -> list[tuple[float, float, float, bool]]:
    """Blocks for `paint_skyline`, enough to close every view along the street."""
    blocks = []
    for azimuth in np.arange(-1.1, 1.1, 0.06):
        green = bool(rng.random() < 0.6)
        blocks.append((azimuth + rng.uniform(-0.02, 0.02), rng.uniform(14, 26), rng.uniform(8, 15), green))
    return blocks


def _rays(camera: Camera) -> FloatArray:
    """Unit vectors in world axes of a coarse grid of pixels, (rows, columns, 3)."""
    u = np.linspace(0, camera.width - 1, max(2, camera.width // GRID)) - (camera.width - 1) / 2
    v = np.linspace(0, camera.height - 1, max(2, camera.height // GRID)) - (camera.height - 1) / 2
    grid = np.stack([*np.meshgrid(u, v), np.full((len(v), len(u)), camera.focal)], axis=-1)
    rays: FloatArray = (grid / np.linalg.norm(grid, axis=-1, keepdims=True)) @ camera.rotation
    return rays


def _clouded(color: FloatArray, rays: FloatArray, light: Light, shift: tuple[float, float]) -> FloatArray:
    """Lay clouds, a flat layer overhead, on the sky's colours."""
    layer = 90.0 / (rays[..., 2] + 0.12).clip(0.05)
    x = (rays[..., 0] * layer + shift[0]).astype(np.float32)
    y = (rays[..., 1] * layer * 0.5 + shift[1]).astype(np.float32)
    pattern = cv2.remap(noise(512, 128, 4, 31), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((pattern + 2.2 * light.cloud - 1.1) * 0.8, 0, 1)[..., None] * min(1.0, light.cloud * 1.6)
    bright = np.array(light.horizon) * (1.02 - 0.1 * np.clip(pattern[..., None], 0, 2) * light.cloud)
    clouded: FloatArray = color * (1 - 0.85 * cover) + bright * 0.85 * cover
    return clouded


def _block() -> FloatArray:
    return np.array([[-1, 0], [1, 0], [1, 0.8], [0.6, 1.0], [-0.6, 1.0], [-1, 0.8]], np.float64)


def _dome() -> FloatArray:
    angles = np.linspace(0, np.pi, 15)
    ripple = 1 + 0.08 * np.cos(angles * 9)
    return np.stack([1.2 * np.cos(angles) * ripple, np.sin(angles) ** 0.6 * ripple], axis=1)
