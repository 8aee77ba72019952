"""Textures: noise, walls, fences, leaves. All seeded; what is the same for every scene is made once a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Image

Gray = npt.NDArray[np.float32]
AnyGray = TypeVar("AnyGray", Gray, Image)

WALL_SCALE = 24
"""Texels a metre on walls and fences."""


@lru_cache(maxsize=16)
def noise(size: int, cell: int, octaves: int, seed: int) -> Gray:
    """Tileable value noise, (size, size) float32 with mean 0 and deviation 1; `cell` is its largest feature, texels."""
    rng = np.random.default_rng([seed, size, cell])
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        count = max(1, size * 2**octave // cell)
        grid = rng.standard_normal((count, count)).astype(np.float32)
        padded = np.pad(grid, 2, mode="wrap")
        step = size / count
        spread = cv2.resize(padded, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        start = round(2 * step)
        total += spread[start : start + size, start : start + size] * 0.6**octave
    spread_noise: Gray = (total - total.mean()) / total.std()
    return spread_noise


def to_bytes(values: npt.NDArray[np.floating]) -> Image:
    """Values cut to 0-255 and to whole numbers."""
    cut: Image = values.clip(0, 255).astype(np.uint8)
    return cut


def piece(rng: np.random.Generator, texture: AnyGray, height: int, width: int) -> AnyGray:
    """A random (height, width) view of a larger texture."""
    rows, columns = texture.shape
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    return texture[top : top + height, left : left + width]


def tinted(factor: Gray, color: Color) -> Image:
    """A colour times a brightness factor, (H, W) -> (H, W, 3) uint8."""
    return colored(to_bytes(factor * np.float32(100)), color)


def colored(percent: Image, color: Color) -> Image:
    """A colour times a brightness in percent, (H, W) uint8 -> (H, W, 3) uint8."""
    image: Image = cv2.transform(percent, np.array(color, np.float32)[:, None] / 100)
    return image


@lru_cache(maxsize=3)
def _bare_wall(style: str) -> Image:
    """Brightness of a wall in percent, (1024, 1024) uint8."""
    stain = noise(1024, 96, 4, 3)
    if style == "brick":
        return to_bytes(100 * (_bricks() + 0.03 * stain))
    return to_bytes(100 + (3.5 if style == "plaster" else 6.0) * stain)


def _bricks() -> Gray:
    """Brightness of a brick wall, (1024, 1024) float32; a brick is enlarged to 33 by 12 cm so as to show."""
    rng = np.random.default_rng(7)
    bricks = rng.uniform(0.82, 1.08, (342, 129)).astype(np.float32)
    wall = np.repeat(np.repeat(bricks, 3, axis=0), 8, axis=1)
    wall[2::3] = 1.18
    wall[:, 7::8] = 1.18
    for row in range(3, len(wall), 6):
        wall[row : row + 3] = np.roll(wall[row : row + 3], 4, axis=1)
    return wall[:1024, :1024].copy()


def wall_surface(rng: np.random.Generator, width: int, height: int, color: Color, style: str) -> Image:
    """A bare wall, (height, width, 3) uint8; style is "brick", "plaster" or "concrete"."""
    percent = piece(rng, _bare_wall(style), height, width).copy()
    if style == "concrete":
        pitch = int(rng.integers(40, 70))
        percent[::pitch] = percent[::pitch] // 5 * 4
        percent[:, ::pitch] = percent[:, ::pitch] // 5 * 4
    foot = min(height, 12)
    percent[-foot:] = (percent[-foot:] * np.linspace(1.0, 0.78, foot)[:, None]).astype(np.uint8)
    return colored(percent, color)


def leaf_wall(rng: np.random.Generator, width: int, height: int, color: Color) -> Image:
    """A clipped hedge, (height, width, 3) uint8, lighter at the top."""
    leaves = piece(rng, noise(512, 12, 3, 5), height, width)
    return tinted((0.95 + 0.24 * leaves) * np.linspace(1.15, 0.6, height, dtype=np.float32)[:, None], color)


def fence_panel(rng: np.random.Generator, style: str, width: int, height: int) -> Image:
    """A fence, (height, width, 3) uint8; style is "boards", "hoarding", "railing" or "mesh".

    Railings and mesh are black where one sees through.
    """
    if style == "boards":
        wood = wall_surface(rng, width, height, _pick(rng, WOOD), "plaster").astype(np.float32)
        board = int(rng.integers(4, 7))
        for x in range(0, width, board):
            wood[:, x : x + board] *= rng.uniform(0.8, 1.12)
            wood[:, x] *= 0.45
        for y in (int(height * 0.2), int(height * 0.75)):
            wood[y : y + 2] *= 0.75
        return to_bytes(wood)
    if style == "hoarding":
        sheet = wall_surface(rng, width, height, _pick(rng, HOARDING), "plaster")
        sheet[:, :: int(rng.integers(26, 44))] //= 2
        band = _pick(rng, HOARDING)
        cv2.rectangle(sheet, (0, int(height * 0.08)), (width, int(height * 0.2)), band, -1)
        return sheet
    metal = _pick(rng, METAL)
    sheet = np.zeros((height, width, 3), np.uint8)
    if style == "railing":
        for x in range(1, width, 4):
            sheet[:, x : x + 3] = metal
        for y in (0, height - 5):
            sheet[y : y + 3] = metal
        sheet[:, :: int(rng.integers(36, 50))] = metal
        return sheet
    for x in range(-height, width, 5):
        cv2.line(sheet, (x, 0), (x + height, height), metal, 1)
        cv2.line(sheet, (x + height, 0), (x, height), metal, 1)
    cv2.rectangle(sheet, (0, 0), (width - 1, height - 1), metal, 2)
    return sheet


CROWNS = 18
"""How many crown shapes there are."""


@lru_cache(maxsize=CROWNS)
def crown(index: int) -> Image:
    """Brightness and opacity of a tree's crown lit from the upper left, (160, 160, 2) uint8."""
    rng = np.random.default_rng([11, index])
    size, center = 160, 80
    slim, pointed = rng.uniform(0.75, 1.0), index % 6 == 5
    opacity = np.zeros((size, size), np.uint8)
    tone = np.zeros((size, size), np.float32)

    def inside() -> tuple[float, float, float]:
        """A random place within the crown: x, y from -1 to 1 and the room left for a cluster there."""
        radius, angle = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        if pointed:
            x *= 0.25 + 0.4 * (y + 1)
        return x * slim, y, 1.0 - radius

    for _ in range(22):
        x, y, room = inside()
        spot = (int(center + 56 * x), int(center + 58 * y))
        cv2.circle(opacity, spot, int(rng.uniform(12, 20) + 14 * room), 255, -1)
    cv2.ellipse(opacity, (center, center), (int(44 * slim * (0.55 if pointed else 1)), 52), 0, 0, 360, 255, -1)
    tone[:] = 70
    for layer in range(3):
        for _ in range(70):
            x, y, _ = inside()
            bright = 78 + 26 * layer - 30 * y - 22 * x + rng.normal(0, 13)
            spot = (int(center + 64 * x - 4 * layer), int(center + 64 * y - 5 * layer))
            cv2.circle(tone, spot, int(rng.uniform(4, 12 - 2 * layer)), float(bright), -1)
    tone += 11 * noise(256, 8, 2, 9)[:size, :size]
    tone = cv2.GaussianBlur(tone, (3, 3), 0)
    opacity = cv2.GaussianBlur(opacity, (5, 5), 0)
    return np.dstack([to_bytes(tone), opacity])


def ramp(dark: Color, bright: Color) -> Image:
    """The colours of the brightnesses 0 to 255, (256, 3) uint8, between two colours at 40 and 200."""
    share = np.clip((np.arange(256, dtype=np.float32)[:, None] - 40) / 160, -0.25, 1.4)
    colors = np.array(dark, np.float32) * (1 - share) + np.array(bright, np.float32) * share
    return to_bytes(colors)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


WOOD: tuple[Color, ...] = ((70, 105, 140), (95, 125, 150), (60, 85, 110), (120, 140, 150), (75, 120, 95))
HOARDING: tuple[Color, ...] = ((150, 95, 40), (90, 120, 60), (205, 205, 205), (60, 60, 170), (60, 160, 205))
METAL: tuple[Color, ...] = ((45, 45, 45), (120, 120, 118), (175, 178, 180), (60, 85, 40), (110, 70, 40))
