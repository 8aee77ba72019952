"""What stands on a pavement: lamp posts, signs, traffic lights, fences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Painter, Texture
from eseg_ros.rendering.street import Street
from eseg_ros.rendering.textures import METAL, WALL_SCALE, fence_panel

POLE = CAMVID.names.index("pole")
SIGN = CAMVID.names.index("sign_symbol")
FENCE = CAMVID.names.index("fence")

FRONT = (0.0, -1.0, 0.0)
"""Normal of what faces the camera's direction of travel."""

POST = 0.13
"""Radius of the posts of signs and signals, metres; stout, so that they can be told from afar."""

WHITE: Color = (235, 236, 238)
RED: Color = (45, 40, 200)
BLUE: Color = (190, 95, 25)
YELLOW: Color = (40, 190, 235)
GREEN: Color = (70, 105, 20)
BLACK: Color = (34, 34, 34)


@dataclass(frozen=True, slots=True)
class LampPost:
    """A post with an arm and a lamp over the road.

    Attributes:
        s, d: place.
        height: metres.
        radius: at the foot, metres.
        color: paint.
        arm: length towards the road, metres; 0 puts a globe on top.
    """

    s: float
    d: float
    height: float
    radius: float
    color: Color
    arm: float

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint post, arm and lamp."""
        foot, top = street.place(self.s, self.d, self.radius), street.place(self.s, self.d, self.height)
        lamp: Color = (150, 215, 255) if painter.light.night else (205, 210, 212)
        if self.arm:
            inwards = -np.sign(self.d)
            tip = street.place(self.s, self.d + inwards * self.arm, self.height + 0.35)
            painter.post(top, tip, (self.radius * 0.75, self.radius * 0.7), self.color, POLE)
            painter.post(
                tip - np.array([inwards * 0.1, 0, 0.02]),
                tip + np.array([inwards * 0.7, 0, 0.02]),
                (0.16, 0.13),
                lamp,
                POLE,
            )
        else:
            painter.post(top, top + np.array([0, 0, 0.3]), (0.3, 0.26), lamp, POLE)
        painter.post(foot, top, (self.radius, self.radius * 0.85), self.color, POLE)
        painter.post(foot, foot + np.array([0, 0, 1.1]), (self.radius * 1.35, self.radius * 1.35), self.color, POLE)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the post's shadow. (N, 3)."""
        return _post_points(street, self.s, self.d, self.radius, self.height)


@dataclass(frozen=True, slots=True)
class Sign:
    """A traffic sign on a post.

    Attributes:
        s, d: place.
        kind: "ban", "limit", "warning", "order", "board", "direction" or "back".
        size: width of the board, metres.
        color: of the board, where the kind leaves it open.
    """

    s: float
    d: float
    kind: str
    size: float
    color: Color

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the post and the board before it."""
        foot = street.place(self.s, self.d, POST)
        middle = 2.35 + self.size / 2
        painter.post(foot, foot + np.array([0, 0, middle]), (POST, POST), (150, 152, 154), POLE)
        center = foot + np.array([0.0, -POST - 0.02, middle])
        painters = {
            "ban": self._paint_ban,
            "limit": self._paint_limit,
            "warning": self._paint_warning,
            "order": self._paint_order,
            "board": self._paint_board,
            "direction": self._paint_board,
            "back": self._paint_back,
        }
        painters[self.kind](painter, center)

    def _paint_ban(self, painter: Painter, center: FloatArray) -> None:
        _plate(painter, center, _disc() * self.size / 2, RED)
        _plate(
            painter, center, np.array([[-0.38, -0.09], [0.38, -0.09], [0.38, 0.09], [-0.38, 0.09]]) * self.size, WHITE
        )

    def _paint_limit(self, painter: Painter, center: FloatArray) -> None:
        _plate(painter, center, _disc() * self.size / 2, RED)
        _plate(painter, center, _disc() * self.size * 0.36, WHITE)
        for x in (-0.13, 0.13):
            digit = np.array([[x - 0.08, -0.17], [x + 0.08, -0.17], [x + 0.08, 0.17], [x - 0.08, 0.17]])
            _plate(painter, center, digit * self.size, BLACK)

    def _paint_warning(self, painter: Painter, center: FloatArray) -> None:
        triangle = np.array([[-0.6, -0.5], [0.6, -0.5], [0.0, 0.54]])
        _plate(painter, center, triangle * self.size, RED)
        _plate(painter, center - (0, 0, 0.04 * self.size), triangle * self.size * 0.64, WHITE)
        bar = np.array([[-0.06, -0.3], [0.06, -0.3], [0.06, 0.1], [-0.06, 0.1]])
        _plate(painter, center, bar * self.size, BLACK)

    def _paint_order(self, painter: Painter, center: FloatArray) -> None:
        _plate(painter, center, _disc() * self.size / 2, BLUE)
        arrow = np.array([[-0.07, -0.32], [0.07, -0.32], [0.07, 0.05], [-0.07, 0.05]])
        _plate(painter, center, arrow * self.size, WHITE)
        _plate(painter, center, np.array([[-0.22, 0.02], [0.22, 0.02], [0.0, 0.34]]) * self.size, WHITE)

    def _paint_board(self, painter: Painter, center: FloatArray) -> None:
        wide, tall = (0.85, 0.4) if self.kind == "direction" else (0.5, 0.5)
        rim = np.array([[-wide, -tall], [wide, -tall], [wide, tall], [-wide, tall]]) * self.size
        if self.kind == "direction":
            rim = np.insert(rim, 2, [[(wide + 0.25) * self.size, 0.0]], axis=0)
        dark = sum(self.color) < 380
        _plate(painter, center, rim, WHITE if dark else BLACK)
        _plate(painter, center, rim * 0.9, self.color)
        text = WHITE if dark else BLACK
        for row, length in ((0.4, 0.7), (0.0, 0.45), (-0.4, 0.6)):
            line = np.array([[-0.75, -0.1], [-0.75 + 2 * length, -0.1], [-0.75 + 2 * length, 0.1], [-0.75, 0.1]])
            _plate(painter, center, (line + np.array([0, row])) * (wide * self.size, tall * self.size), text)

    def _paint_back(self, painter: Painter, center: FloatArray) -> None:
        _plate(painter, center, _disc() * self.size / 2, (128, 130, 132))
        _plate(painter, center, _disc() * self.size * 0.44, (152, 154, 156))

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the sign's shadow. (N, 3)."""
        return _post_points(street, self.s, self.d, POST, 2.4 + self.size)


@dataclass(frozen=True, slots=True)
class TrafficLight:
    """A signal head on a post; it changes every few seconds.

    Attributes:
        s, d: place.
        phase: seconds by which its cycle is shifted.
    """

    s: float
    d: float
    phase: float

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint post, backing board and the three lamps."""
        foot = street.place(self.s, self.d, POST)
        painter.post(foot, foot + np.array([0, 0, 2.6]), (POST, POST), (70, 72, 74), POLE)
        center = foot + np.array([0.0, -POST - 0.02, 3.15])
        rim = np.array([[-0.36, -0.72], [0.36, -0.72], [0.36, 0.72], [-0.36, 0.72]])
        _plate(painter, center, rim, WHITE)
        _plate(painter, center, rim * 0.88, BLACK)
        moment = (time + self.phase) % 20.0
        shining = 0 if moment < 9 else 1 if moment < 11 else 2
        on: tuple[Color, ...] = ((40, 40, 250), (40, 190, 255), (130, 240, 60))
        off: tuple[Color, ...] = ((30, 30, 80), (30, 65, 85), (45, 70, 30))
        seen = painter.camera.view(center[None])[0]
        for lamp in range(3):
            spot = _disc() * 0.17 + (0.0, 0.42 - 0.42 * lamp)
            corners = center + np.stack([spot[:, 0], np.zeros(len(spot)), spot[:, 1]], axis=1)
            color = painter.light.hazed(on[lamp] if lamp == shining else off[lamp], float(seen[2]))
            painter.polygon(painter.camera.view(corners), color, SIGN)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the signal's shadow. (N, 3)."""
        return _post_points(street, self.s, self.d, POST, 3.8)


@dataclass(frozen=True, slots=True)
class Fence:
    """A straight piece of fence.

    Attributes:
        start, end: places (s, d) of its two ends.
        height: metres.
        texture: from `textures.fence_panel`.
        see_through: whether black texels show what is behind.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    texture: Texture
    see_through: bool

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the panel."""
        low = [street.place(*self.start), street.place(*self.end)]
        up = np.array([0.0, 0.0, self.height])
        corners = np.array([*low, low[1] + up, low[0] + up])
        along = low[1] - low[0]
        normal = np.array([along[1], -along[0], 0.0]) / np.linalg.norm(along)
        if float((painter.camera.position - low[0]) @ normal) < 0:
            normal = -normal
        facing = (float(normal[0]), float(normal[1]), 0.0)
        painter.panel(corners, self.texture, facing, FENCE, see_through=self.see_through)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the fence's shadow. (N, 3)."""
        return np.array([street.place(*place, z) for place in (self.start, self.end) for z in (0.0, self.height)])


def random_lamp(rng: np.random.Generator, s: float, d: float, color: Color) -> LampPost:
    """A lamp post of 5 to 8 m."""
    return LampPost(
        s=s,
        d=d,
        height=rng.uniform(5.0, 8.0),
        radius=rng.uniform(0.16, 0.21),
        color=color,
        arm=rng.uniform(1.0, 2.2) if rng.random() < 0.7 else 0.0,
    )


def random_metal(rng: np.random.Generator) -> Color:
    """Paint of posts and railings."""
    return METAL[int(rng.integers(len(METAL)))]


def random_sign(rng: np.random.Generator, s: float, d: float) -> Sign:
    """A sign of any kind; boards and direction signs have one of the usual colours."""
    kinds = ["ban", "limit", "warning", "order", "board", "direction", "back"]
    kind = str(rng.choice(kinds, p=[0.16, 0.18, 0.2, 0.18, 0.14, 0.12, 0.02]))
    colors = (BLUE, GREEN, WHITE, YELLOW)
    return Sign(s=s, d=d, kind=kind, size=rng.uniform(0.85, 1.2), color=colors[int(rng.integers(4))])


def random_fences(rng: np.random.Generator, start: float, end: float, d: float, styles: tuple[str, ...]) -> list[Fence]:
    """A run of equal panels along the street at distance d (signed)."""
    style = styles[int(rng.integers(len(styles)))]
    low, high = {"boards": (1.5, 2.0), "hoarding": (1.9, 2.4), "railing": (1.1, 1.5), "mesh": (1.4, 2.0)}[style]
    height = rng.uniform(low, high)
    pieces = max(1, round((end - start) / 3.0))
    ends = np.linspace(start, end, pieces + 1)
    width = int((end - start) / pieces * WALL_SCALE)
    texture = Texture(fence_panel(rng, style, width, int(height * WALL_SCALE)))
    return [
        Fence((float(a), d), (float(b), d), height, texture, style in ("railing", "mesh")) for a, b in pairwise(ends)
    ]


def _plate(painter: Painter, center: FloatArray, outline: FloatArray, color: Color) -> None:
    """Paint a flat shape that faces the traffic; outline (N, 2) is metres right and up of its centre."""
    corners = center + np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1)
    painter.face(corners, color, FRONT, SIGN)


def _disc() -> FloatArray:
    """The unit circle, (20, 2)."""
    angles = np.linspace(0, 2 * np.pi, 21)[:-1]
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _post_points(street: Street, s: float, d: float, radius: float, height: float) -> FloatArray:
    return np.array([street.place(s, d + side * radius, z) for side in (-1, 1) for z in (0.0, height)])
