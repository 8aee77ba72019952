"""Textures: noise, walls, fences, leaves. All seeded; what is the same for every scene is made once a process."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Image

Gray = npt.NDArray[np.float32]

WALL_SCALE = 24
"""Texels a metre on walls and fences."""


def pyramid(texture: Image) -> list[Image]:
    """A texture (H, W, 3) and its halvings down to eight rows."""
    levels = [texture]
    while min(levels[-1].shape[:2]) > 8:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels


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


def tile(texture: npt.NDArray[np.generic], height: int, width: int, start: tuple[int, int]) -> npt.NDArray[np.generic]:
    """A (height, width) piece of a tileable texture, starting at (row, column)."""
    rows = (np.arange(height) + start[0]) % texture.shape[0]
    columns = (np.arange(width) + start[1]) % texture.shape[1]
    return texture[rows[:, None], columns]


@lru_cache(maxsize=1)
def _bricks() -> Gray:
    """Brightness factors of a brick wall, (240, 240) float32; courses of 7.5 cm do not survive, so 12 cm stand in."""
    rng = np.random.default_rng(7)
    wall = np.full((240, 240), 1.18, np.float32)
    for row in range(80):
        shift = 4 * (row % 2)
        for column in range(30):
            x = (column * 8 + shift) % 240
            wall[row * 3 : row * 3 + 2, x : x + 7] = rng.uniform(0.82, 1.08)
    return wall


def wall_surface(rng: np.random.Generator, width: int, height: int, color: Color, style: str) -> Image:
    """A bare wall, (height, width, 3) uint8; style is "brick", "plaster" or "concrete"."""
    start = (int(rng.integers(240)), int(rng.integers(240)))
    stain = tile(noise(256, 96, 4, 3), height, width, start).astype(np.float32)
    if style == "brick":
        factor = tile(_bricks(), height, width, start).astype(np.float32) + 0.03 * stain
    else:
        factor = 1.0 + (0.035 if style == "plaster" else 0.06) * stain
    if style == "concrete":
        pitch = int(rng.integers(40, 70))
        factor[::pitch] *= 0.8
        factor[:, ::pitch] *= 0.8
    factor[-12:] *= np.linspace(1.0, 0.78, 12, dtype=np.float32)[:height, None][-len(factor[-12:]) :]
    return np.clip(factor[..., None] * np.float32(color), 0, 255).astype(np.uint8)


def leaf_wall(rng: np.random.Generator, width: int, height: int, color: Color) -> Image:
    """A clipped hedge, (height, width, 3) uint8, lighter at the top."""
    start = (int(rng.integers(256)), int(rng.integers(256)))
    leaves = tile(noise(256, 12, 3, 5), height, width, start).astype(np.float32)
    factor = (0.95 + 0.24 * leaves) * np.linspace(1.15, 0.6, height, dtype=np.float32)[:, None]
    return np.clip(factor[..., None] * np.float32(color), 0, 255).astype(np.uint8)


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
        return np.clip(wood, 0, 255).astype(np.uint8)
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
            sheet[:, x : x + 2] = metal
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
    return np.dstack([np.clip(tone, 0, 255).astype(np.uint8), opacity])


def ramp(dark: Color, bright: Color) -> Image:
    """The colours of the brightnesses 0 to 255, (256, 3) uint8, between two colours at 40 and 200."""
    share = np.clip((np.arange(256, dtype=np.float32)[:, None] - 40) / 160, -0.25, 1.4)
    colors = np.float32(dark) * (1 - share) + np.float32(bright) * share
    return np.clip(colors, 0, 255).astype(np.uint8)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


WOOD: tuple[Color, ...] = ((70, 105, 140), (95, 125, 150), (60, 85, 110), (120, 140, 150), (75, 120, 95))
HOARDING: tuple[Color, ...] = ((150, 95, 40), (90, 120, 60), (205, 205, 205), (60, 60, 170), (60, 160, 205))
METAL: tuple[Color, ...] = ((45, 45, 45), (120, 120, 118), (175, 178, 180), (60, 85, 40), (110, 70, 40))
