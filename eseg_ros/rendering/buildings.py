"""Houses: a textured front, a side wall, a roof with chimneys."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import UP, Image, Painter, Texture
from eseg_ros.rendering.street import Street
from eseg_ros.rendering.textures import WALL_SCALE, wall_surface

BUILDING = CAMVID.names.index("building")

BRICK: tuple[Color, ...] = (
    (62, 78, 142), (72, 92, 150), (84, 104, 158), (120, 150, 178), (70, 82, 118), (140, 165, 185),
)  # fmt: skip
PLASTER: tuple[Color, ...] = (
    (205, 222, 232), (180, 205, 222), (150, 190, 220), (196, 204, 206), (170, 178, 226), (208, 196, 176),
    (176, 206, 186), (120, 168, 208), (226, 230, 232),
)  # fmt: skip
CONCRETE: tuple[Color, ...] = ((158, 162, 164), (136, 144, 150), (176, 180, 180), (112, 116, 122))
ROOFS: tuple[Color, ...] = ((62, 74, 112), (72, 72, 74), (54, 62, 82), (84, 88, 92), (70, 96, 150))
AWNINGS: tuple[Color, ...] = ((60, 60, 170), (70, 110, 50), (130, 80, 40), (50, 140, 200), (60, 60, 60))


@dataclass(frozen=True, slots=True)
class Building:
    """A house along the street.

    Attributes:
        start, end: metres along the street.
        side: -1 left, 1 right of the street.
        line: distance of the front from the middle of the street, metres.
        height: of the eaves, metres.
        depth: away from the street, metres.
        rise: height of the ridge over the eaves, metres; 0 is a flat roof.
        front, wall: textures.
        roof: colour.
        chimneys: metres along the street.
    """

    start: float
    end: float
    side: int
    line: float
    height: float
    depth: float
    rise: float
    front: Texture
    wall: Texture
    roof: Color
    chimneys: tuple[float, ...]

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the faces that look at the street or against the direction of travel."""
        side, line, back = self.side, self.side * self.line, self.side * (self.line + self.depth)
        if self.rise:
            self._paint_roof(painter, street)
        gable = _upright(street, (self.start, line), (self.start, back), self.height)
        if painter.camera.position[1] < self.start:
            painter.panel(gable, self.wall, (0.0, -1.0, 0.0), BUILDING)
        front = _upright(street, (self.start, line), (self.end, line), self.height)
        painter.panel(front, self.front, (-float(side), 0.0, 0.0), BUILDING)

    def _paint_roof(self, painter: Painter, street: Street) -> None:
        line, ridge = self.side * self.line, self.side * (self.line + self.depth / 2)
        top = self.height + self.rise
        for s in self.chimneys:
            self._paint_chimney(painter, street, s, ridge, top)
        slope = np.array([-self.side * self.rise, 0.0, self.depth / 2])
        slope /= np.linalg.norm(slope)
        eaves = [street.place(self.start, line, self.height), street.place(self.end, line, self.height)]
        corners = np.array([*eaves, street.place(self.end, ridge, top), street.place(self.start, ridge, top)])
        if float((painter.camera.position - corners[0]) @ slope) > 0:
            painter.face(corners, self.roof, (float(slope[0]), 0.0, float(slope[2])), BUILDING)
        if painter.camera.position[1] < self.start:
            back = self.side * (self.line + self.depth)
            triangle = np.array([corners[0], corners[3], street.place(self.start, back, self.height)])
            painter.face(triangle, self.wall.mean_color(), (0.0, -1.0, 0.0), BUILDING)

    def _paint_chimney(self, painter: Painter, street: Street, s: float, d: float, top: float) -> None:
        base = street.place(s, d, top - 0.8)
        across, along, up = np.array([0.45, 0.0, 0.0]), np.array([0.0, 0.5, 0.0]), np.array([0.0, 0.0, 2.0])
        front = np.array([base - across, base + across, base + across + up, base - across + up])
        flank = base - across * self.side
        flat = np.array([flank, flank + along, flank + along + up, flank + up])
        color = self.wall.mean_color()
        painter.face(flat, color, (-float(self.side), 0.0, 0.0), BUILDING)
        painter.face(front, color, (0.0, -1.0, 0.0), BUILDING)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the house's shadow. (N, 3)."""
        line, back = self.side * self.line, self.side * (self.line + self.depth)
        corners = [(s, d) for s in (self.start, self.end) for d in (line, back)]
        points = [street.place(s, d, z) for s, d in corners for z in (0.0, self.height)]
        if self.rise:
            ridge = (line + back) / 2
            points += [street.place(s, ridge, self.height + self.rise) for s in (self.start, self.end)]
        return np.array(points)


def random_building(
    rng: np.random.Generator, start: float, end: float, side: int, line: float, night: float
) -> Building:
    """A house between two places along the street; `night` is the share of lit windows."""
    style = str(rng.choice(["brick", "plaster", "concrete"], p=[0.45, 0.4, 0.15]))
    colors = {"brick": BRICK, "plaster": PLASTER, "concrete": CONCRETE}[style]
    color = _varied(rng, colors[int(rng.integers(len(colors)))])
    floors = int(rng.choice([2, 3, 4, 5, 7], p=[0.34, 0.34, 0.18, 0.1, 0.04]))
    ground_floor, floor = rng.uniform(3.1, 4.0), rng.uniform(2.7, 3.2)
    height = ground_floor + (floors - 1) * floor + 0.6
    pitched = style != "concrete" and rng.random() < 0.75
    front = _front(rng, end - start, height, ground_floor, floor, color, style, night)
    depth = rng.uniform(8.0, 11.0)
    wall_size = (int(depth * 8), int(height * 8))
    chimneys = rng.uniform(start + 1, end - 1, int(rng.integers(1, 3))) if pitched else np.empty(0)
    return Building(
        start=start,
        end=end,
        side=side,
        line=line,
        height=height,
        depth=depth,
        rise=rng.uniform(2.2, 3.6) if pitched else 0.0,
        front=Texture(front),
        wall=Texture(wall_surface(rng, *wall_size, color, "plaster")),
        roof=_varied(rng, ROOFS[int(rng.integers(len(ROOFS)))]),
        chimneys=tuple(sorted(chimneys.tolist(), reverse=True)),
    )


def _front(
    rng: np.random.Generator,
    width: float,
    height: float,
    ground_floor: float,
    floor: float,
    color: Color,
    style: str,
    night: float,
) -> Image:
    """The texture of a front, (height, width, 3) uint8 at WALL_SCALE; sizes in metres."""
    wall = wall_surface(rng, int(width * WALL_SCALE), int(height * WALL_SCALE), color, style)
    frame: Color = (60, 60, 62) if rng.random() < 0.25 else (232, 234, 236)
    trim: Color = (215, 220, 222)
    if rng.random() < 0.6:
        trim = color[0] * 1.15, color[1] * 1.15, color[2] * 1.15
    bays = max(1, round(width / rng.uniform(2.1, 3.2)))
    pitch = width / bays
    glazed = style == "concrete" and rng.random() < 0.6
    size = (pitch * (0.82 if glazed else rng.uniform(0.38, 0.56)), floor * (0.6 if glazed else rng.uniform(0.5, 0.62)))
    panes = (1, 2) if rng.random() < 0.5 else (2, 2)
    z = ground_floor
    while z + floor <= height + 0.1:
        for bay in range(bays):
            box = _box(wall, (bay + 0.5) * pitch - size[0] / 2, z + floor * 0.22, *size)
            _window(rng, wall, box, frame, panes, night)
            if not glazed:
                x0, _, x1, y1 = box
                cv2.rectangle(wall, (x0 - 2, y1 + 1), (x1 + 2, y1 + 3), trim, -1)  # sill
        z += floor
    if rng.random() < 0.5:
        _shop(rng, wall, width, ground_floor, night)
    else:
        door = int(rng.integers(bays))
        for bay in range(bays):
            middle = (bay + 0.5) * pitch
            if bay == door:
                _door(rng, wall, _box(wall, middle - 0.55, 0.0, 1.1, 2.3), trim)
            else:
                _window(rng, wall, _box(wall, middle - size[0] / 2, 0.9, size[0], 1.5), frame, panes, night)
    rows = wall.shape[0]
    if rng.random() < 0.6:
        course = rows - int(ground_floor * WALL_SCALE)
        cv2.rectangle(wall, (0, course - 2), (wall.shape[1], course + 2), trim, -1)
    cv2.rectangle(wall, (0, 0), (wall.shape[1], 5), trim, -1)
    wall[6:9] = (wall[6:9] * 0.6).astype(np.uint8)  # the eaves' shadow
    wall[:, :2] = (wall[:, :2] * 0.75).astype(np.uint8)
    return wall


def _window(
    rng: np.random.Generator,
    wall: Image,
    box: tuple[int, int, int, int],
    frame: Color,
    panes: tuple[int, int],
    night: float,
) -> None:
    x0, y0, x1, y1 = box
    cv2.rectangle(wall, (x0 - 2, y0 - 2), (x1 + 1, y1 + 1), frame, -1)
    if rng.random() < night:
        glass: Color = (rng.uniform(90, 150), rng.uniform(170, 215), rng.uniform(220, 255))
    else:
        tone = rng.uniform(35, 95)
        glass = (tone * 1.15, tone * 1.02, tone * 0.9)
    cv2.rectangle(wall, (x0, y0), (x1 - 1, y1 - 1), glass, -1)
    bright = tuple(min(255.0, c * 1.5 + 12) for c in glass)
    kind = rng.random()
    if kind < 0.45:  # the sky mirrored in the upper part
        corners = np.array([[x0, y0], [x1 - 1, y0], [x0, y0 + int((y1 - y0) * rng.uniform(0.4, 0.9))]])
        cv2.fillConvexPoly(wall, corners, bright)
    elif kind < 0.65:  # curtains
        width = max(1, (x1 - x0) // 4)
        cv2.rectangle(wall, (x0, y0), (x0 + width, y1 - 1), (178, 186, 190), -1)
        cv2.rectangle(wall, (x1 - 1 - width, y0), (x1 - 1, y1 - 1), (178, 186, 190), -1)
    for column in range(1, panes[0]):
        x = x0 + (x1 - x0) * column // panes[0]
        cv2.rectangle(wall, (x - 1, y0), (x, y1 - 1), frame, -1)
    for row in range(1, panes[1]):
        y = y0 + (y1 - y0) * row // panes[1]
        cv2.rectangle(wall, (x0, y - 1), (x1 - 1, y), frame, -1)
    cv2.rectangle(wall, (x0, y0), (x1 - 1, y0 + 1), (40, 40, 40), -1)  # the reveal's shadow


def _door(rng: np.random.Generator, wall: Image, box: tuple[int, int, int, int], trim: Color) -> None:
    x0, y0, x1, y1 = box
    cv2.rectangle(wall, (x0 - 3, y0 - 5), (x1 + 2, y1), trim, -1)
    color = _varied(rng, AWNINGS[int(rng.integers(len(AWNINGS)))])
    cv2.rectangle(wall, (x0, y0), (x1, y1), color, -1)
    cv2.rectangle(wall, (x0 + 4, y0 + 5), (x1 - 5, y0 + 18), tuple(c * 0.6 for c in color), -1)
    cv2.rectangle(wall, (x0 + 4, y0 + 26), (x1 - 5, y1 - 6), tuple(c * 0.75 for c in color), -1)


def _shop(rng: np.random.Generator, wall: Image, width: float, ground_floor: float, night: float) -> None:
    """Large panes, a door between them and a fascia or awning over them."""
    color = _varied(rng, AWNINGS[int(rng.integers(len(AWNINGS)))])
    x0, y0, x1, y1 = _box(wall, 0.25, 0.0, width - 0.5, ground_floor - 0.3)
    cv2.rectangle(wall, (x0, y0), (x1, y1), tuple(c * 0.55 for c in color), -1)
    panes = max(2, int(width / 2.4))
    pitch = (x1 - x0) / panes
    door = int(rng.integers(panes))
    top = y0 + int(0.75 * WALL_SCALE)
    for pane in range(panes):
        left, right = int(x0 + pane * pitch) + 3, int(x0 + (pane + 1) * pitch) - 3
        bottom = y1 - (2 if pane == door else int(0.5 * WALL_SCALE))
        lit = rng.random() < max(0.25, night)
        glass: Color = (120, 175, 205) if lit else (78, 70, 62)
        cv2.rectangle(wall, (left, top), (right, bottom), glass, -1)
        for _ in range(5):  # goods on display
            x, y = int(rng.uniform(left, right)), int(rng.uniform(top + 10, bottom))
            goods = tuple(float(c) for c in rng.uniform(40, 200, 3))
            cv2.rectangle(wall, (x, y), (min(right, x + 7), min(bottom, y + 12)), goods, -1)
        corners = np.array([[left, top], [left + (right - left) // 2, top], [left, top + (bottom - top) // 2]])
        cv2.fillConvexPoly(wall, corners, tuple(min(255.0, c * 1.35 + 10) for c in glass))
    cv2.rectangle(wall, (x0, y0), (x1, top - 3), color, -1)
    if rng.random() < 0.5:  # a striped awning
        for x in range(x0, x1, 14):
            cv2.rectangle(wall, (x, top - 4), (min(x1, x + 6), top + 9), (225, 228, 230), -1)
            cv2.rectangle(wall, (x + 7, top - 4), (min(x1, x + 13), top + 9), color, -1)


def _box(wall: Image, x: float, z: float, width: float, height: float) -> tuple[int, int, int, int]:
    """Texel corners x0, y0, x1, y1 of a rectangle given in metres from the lower left of a wall."""
    bottom = wall.shape[0] - int(z * WALL_SCALE)
    return (
        int(x * WALL_SCALE),
        bottom - int(height * WALL_SCALE),
        int((x + width) * WALL_SCALE),
        bottom,
    )


def _upright(street: Street, start: tuple[float, float], end: tuple[float, float], height: float) -> FloatArray:
    """Corners (4, 3) for `Painter.panel` of a wall between two places (s, d)."""
    low = [street.place(*start), street.place(*end)]
    return np.array([*low, low[1] + np.multiply(UP, height), low[0] + np.multiply(UP, height)])


def _varied(rng: np.random.Generator, color: Color) -> Color:
    blue, green, red = (np.array(color) * rng.uniform(0.86, 1.1) + rng.normal(0, 5, 3)).clip(8, 240).tolist()
    return blue, green, red
