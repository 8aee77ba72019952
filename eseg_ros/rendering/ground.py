"""Road and pavements: a texture in street coordinates, looked up once for every pixel below the horizon."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import Camera, FloatArray, clip_near
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import SUBPIXEL_BITS, Image, Painter, fixed_point
from eseg_ros.rendering.street import Street
from eseg_ros.rendering.textures import noise, piece, to_bytes

ROAD = CAMVID.names.index("road")
PAVEMENT = CAMVID.names.index("pavement")
GRASS = CAMVID.names.index("tree")

SCALE = 32
"""Texels a metre."""
HALF_WIDTH = 16.0
"""Metres of ground on either side of the middle line; beyond it goes on as it ends."""
PERIOD = 24.0
"""Metres after which the texture repeats."""
MARKING: Color = (205.0, 208.0, 210.0)
"""Colour of a pedestrian crossing."""
BANDS = ((0.0, 9.0, 1, 1), (9.0, 20.0, 2, 4), (20.0, 40.0, 2, 12), (40.0, np.inf, 4, 48))
"""Nearest and furthest metre of each level of detail, and how often it is halved across and along the street."""


class Ground:
    """The ground of one street.

    Args:
        street: cross-section and bend.
        rng: seeds materials, wear and markings.
    """

    def __init__(self, street: Street, rng: np.random.Generator) -> None:
        self._street = street
        texture, self._labels = _surface(street, rng)
        self._levels = [
            texture
            if across == along == 1
            else cv2.resize(texture, None, fx=1 / across, fy=1 / along, interpolation=cv2.INTER_AREA)
            for _, _, across, along in BANDS
        ]

    def paint(self, painter: Painter, markings: list[FloatArray], shadows: list[tuple[FloatArray, float]]) -> None:
        """Paint everything below the horizon.

        Args:
            painter: the picture; what it shows below the horizon is painted over.
            markings: white polygons on the road, (N, 2) world x and y.
            shadows: polygons on the ground, (N, 2) world x and y, with the share of light they take, 0-1.
        """
        camera, light = painter.camera, painter.light
        x, y, top = _ground_points(camera)
        if top >= camera.height:
            return
        across = np.clip(x - self._street.bend(y), -HALF_WIDTH, HALF_WIDTH) + np.float32(HALF_WIDTH)
        below = painter.pixels[top:]
        below[..., 3] = self._labels[(across * SCALE).astype(np.int16)]
        color = self._look_up(across, y - np.float32(camera.position[1]), float(camera.position[1]))
        for outline in markings:
            _fill(color, camera, outline, MARKING, first_row=top)

        distance = np.abs(y[:, camera.width // 2] - np.float32(camera.position[1]))[:, None]
        clear = np.exp(-distance / np.float32(light.visibility))
        shadow = cv2.resize(_shadow_mask(camera, shadows), (camera.width, camera.height))[top:]
        sunlit = light.lit((100.0, 100.0, 100.0), (0.0, 0.0, 1.0), 0.0)
        dim = (1.0 - shadow.astype(np.float32) * np.float32(1 / 255)) * clear
        for channel in range(3):
            color_channel = color[..., channel] * dim * np.float32(sunlit[channel] / 100)
            color_channel += np.float32(light.haze[channel]) * (1 - clear)
            np.minimum(color_channel, 255, out=color_channel)
            below[..., channel] = color_channel

    def _look_up(self, across: npt.NDArray[np.float32], ahead: npt.NDArray[np.float32], start: float) -> Image:
        """The texture's colour at every point. (H, W, 3) uint8."""
        color = np.empty((*across.shape, 3), np.uint8)
        middle = ahead[:, ahead.shape[1] // 2]
        along = (ahead + np.float32(start % PERIOD)) * np.float32(SCALE)
        for level, (nearest, furthest, narrower, shorter) in zip(self._levels, BANDS, strict=True):
            rows = np.flatnonzero((middle >= nearest) & (middle < furthest))
            if not len(rows):
                continue
            band = slice(rows[0], rows[-1] + 1)
            cv2.remap(
                level,
                across[band] * np.float32(SCALE / narrower) - np.float32(0.5),
                along[band] * np.float32(1 / shorter),
                cv2.INTER_LINEAR,
                color[band],
                cv2.BORDER_WRAP,
            )
        return color


def _ground_points(camera: Camera) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], int]:
    """World x and y, (H - top, W) each, of the pixels from row `top` down, the first row that is all ground."""
    right, down, forward = camera.rotation
    u = (np.arange(camera.width, dtype=np.float32) - (camera.width - 1) / 2) / camera.focal
    v = (np.arange(camera.height, dtype=np.float32) - (camera.height - 1) / 2) / camera.focal
    fall = -(u[None, :] * right[2] + v[:, None] * down[2] + forward[2])
    ground_rows = np.flatnonzero((fall > 2e-3).all(axis=1))
    top = int(ground_rows[0]) if len(ground_rows) else camera.height
    reach = (camera.position[2] / fall[top:]).astype(np.float32)
    v = v[top:, None]
    x = camera.position[0] + reach * (u * right[0] + v * down[0] + forward[0])
    y = camera.position[1] + reach * (u * right[1] + v * down[1] + forward[1])
    return x.astype(np.float32), y.astype(np.float32), top


def _shadow_mask(camera: Camera, shadows: list[tuple[FloatArray, float]]) -> Image:
    """Share of the light taken from the ground, (H / 2, W / 2) uint8, softened a little."""
    mask = np.zeros((camera.height // 2, camera.width // 2), np.uint8)
    for outline, depth in sorted(shadows, key=lambda shadow: shadow[1]):
        _fill(mask, camera, outline, (int(255 * depth),), scale=0.5)
    blurred: Image = cv2.blur(mask, (3, 3))
    return blurred


def _fill(
    picture: Image,
    camera: Camera,
    outline: FloatArray,
    color: tuple[float, ...],
    *,
    first_row: int = 0,
    scale: float = 1.0,
) -> None:
    """Fill a polygon of the ground, (N, 2) world, in a picture that starts at a lower row or is smaller."""
    seen = clip_near(camera.view(np.concatenate([outline, np.zeros((len(outline), 1))], axis=1)))
    if len(seen) < 3:
        return
    pixels = fixed_point(camera.project(seen) * scale - (0, first_row))
    if len(pixels):
        cv2.fillConvexPoly(picture, pixels, color, cv2.LINE_8, SUBPIXEL_BITS)


def _surface(street: Street, rng: np.random.Generator) -> tuple[Image, npt.NDArray[np.uint8]]:
    """The texture (along, across, 3) and the class id of each of its columns."""
    columns, rows = int(2 * HALF_WIDTH * SCALE) + 1, int(PERIOD * SCALE)
    profile = np.empty((columns, 3), np.float32)
    labels = np.empty(columns, np.uint8)
    d = np.arange(columns) / SCALE - HALF_WIDTH
    asphalt = rng.uniform(78, 118)
    profile[:] = (asphalt + rng.uniform(-2, 6), asphalt, asphalt - rng.uniform(-1, 5))
    profile *= (1 - 0.05 * np.cos(2 * np.pi * d / street.lane))[:, None]  # wheel tracks
    labels[:] = ROAD
    paving = rng.uniform(128, 176)
    paving_color = np.array([paving - rng.uniform(-4, 16), paving, paving + rng.uniform(-4, 12)], np.float32)
    grass_color = np.array([45, rng.uniform(95, 130), rng.uniform(70, 110)], np.float32)
    if rng.random() < 0.3:
        lane_color = [(70, 110, 70), (75, 80, 150)][int(rng.integers(2))]
        for side in (-1, 1):
            cycle = (side * d > street.lane + 0.1) & (side * d < street.lane + street.cycle)
            profile[cycle] = 0.35 * profile[cycle] + 0.65 * np.array(lane_color, np.float32)
    for side in (-1, 1):
        kerb, line = street.kerb(side), street.building_line(side)
        paved = side * d >= kerb
        profile[paved], labels[paved] = paving_color, PAVEMENT
        profile[paved & (side * d < kerb + 0.2)] = paving_color * rng.uniform(1.1, 1.25)  # kerb stones
        profile[(side * d >= kerb - 0.12) & ~paved] *= 0.7  # gutter
        grass = side * d >= line
        profile[grass], labels[grass] = grass_color, GRASS

    rough = piece(rng, noise(2048, 6, 2, 21), rows, columns)
    patchy = piece(rng, noise(2048, 128, 3, 22), rows, columns)
    factor = rough * np.float32(rng.uniform(3, 6)) + patchy * np.float32(rng.uniform(2, 5)) + np.float32(100)
    _slabs(factor, np.flatnonzero(labels == PAVEMENT), rng)
    percent = to_bytes(factor)
    flat = np.broadcast_to(to_bytes(profile), (rows, columns, 3))
    texture: Image = cv2.multiply(np.ascontiguousarray(flat), cv2.merge([percent] * 3), scale=0.01)
    _wear(texture, street, rng)
    _markings(texture, street, rng)
    return texture, labels


def _slabs(factor: npt.NDArray[np.float32], columns: npt.NDArray[np.intp], rng: np.random.Generator) -> None:
    """Joints between paving slabs, and slabs of different ages."""
    side = int(SCALE * rng.choice([0.5, 0.75, 1.0]))
    tones = rng.normal(1.0, 0.045, (factor.shape[0] // side + 1, factor.shape[1] // side + 1)).astype(np.float32)
    slabs = np.repeat(np.repeat(tones, side, axis=0), side, axis=1)[: factor.shape[0], : factor.shape[1]].copy()
    slabs[::side] = 0.8
    slabs[:, ::side] = 0.8
    factor[:, columns] *= slabs[:, columns]


def _wear(texture: Image, street: Street, rng: np.random.Generator) -> None:
    """Repair patches, cracks, manholes and gullies in the asphalt."""
    for _ in range(int(rng.integers(0, 5))):
        x, y = _texel(rng.uniform(-street.lane, street.lane), rng.uniform(0, PERIOD - 6))
        patch = texture[y : y + int(rng.uniform(1, 5) * SCALE), x : x + int(rng.uniform(0.6, 1.6) * SCALE)]
        patch[:] = (patch * rng.uniform(0.74, 0.92)).astype(np.uint8)
    for _ in range(int(rng.integers(0, 3))):
        x, y = _texel(rng.uniform(-street.lane, street.lane) * 0.8, rng.uniform(1, PERIOD - 1))
        cv2.circle(texture, (x, y), int(0.34 * SCALE), (62, 62, 62), -1, cv2.LINE_AA)
        cv2.circle(texture, (x, y), int(0.28 * SCALE), (88, 86, 84), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 4))):
        start = np.array(_texel(rng.uniform(-street.lane, street.lane), rng.uniform(0, PERIOD - 8)))
        steps = np.cumsum(rng.normal((0, 14), (7, 6), (16, 2)), axis=0)
        cv2.polylines(texture, [(start + steps).astype(np.int32)], False, (66, 66, 66), 1, cv2.LINE_AA)


def _markings(texture: Image, street: Street, rng: np.random.Generator) -> None:
    """Lane lines: dashed or solid in the middle, along the cycle lane, and at the kerb."""
    white = (rng.uniform(205, 238),) * 3
    yellow = (70, 190, 215)
    width = rng.uniform(0.12, 0.17)
    middle = rng.choice(["dashed", "long", "solid", "double"], p=[0.45, 0.3, 0.1, 0.15])
    if middle == "double":
        for d in (-0.14, 0.14):
            _line(texture, d, width, white, PERIOD, PERIOD)
    else:
        dash, pitch = {"dashed": (2.0, 6.0), "long": (4.0, 8.0), "solid": (PERIOD, PERIOD)}[str(middle)]
        _line(texture, 0.0, width, white, dash, pitch)
    edge_dash = (PERIOD, PERIOD) if rng.random() < 0.5 else (1.0, 2.0)
    kerb_line = rng.choice(["none", "yellow", "double yellow"])
    for side in (-1, 1):
        _line(texture, side * street.lane, width, white, *edge_dash)
        kerb = street.kerb(side)
        if street.parking[side > 0]:
            _line(texture, side * (street.lane + street.cycle), width * 0.8, white, *edge_dash)
            for s in np.arange(0.0, PERIOD, 6.0):
                x0, y0 = _texel(side * (street.lane + street.cycle), s)
                x1, _ = _texel(side * (kerb - 0.15), s)
                cv2.line(texture, (x0, y0), (x1, y0), white, 3, cv2.LINE_AA)
        elif kerb_line != "none":
            _line(texture, side * (kerb - 0.3), 0.09, yellow, PERIOD, PERIOD)
            if kerb_line == "double yellow":
                _line(texture, side * (kerb - 0.5), 0.09, yellow, PERIOD, PERIOD)


def _line(texture: Image, d: float, width: float, color: Color, dash: float, pitch: float) -> None:
    for s in np.arange(0.0, PERIOD, pitch):
        x, y = _texel(d, s)
        half = max(1, round(width * SCALE / 2))
        stripe = texture[y : y + int(dash * SCALE), x - half : x + half]
        stripe[:] = cv2.addWeighted(stripe, 0.15, np.full_like(stripe, color), 0.85, 0)


def _texel(d: float, s: float) -> tuple[int, int]:
    return int((d + HALF_WIDTH) * SCALE), int(s * SCALE)
