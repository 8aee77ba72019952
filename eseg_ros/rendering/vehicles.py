"""Cars, vans and buses: extruded side profiles with glass, wheels and lights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Painter
from eseg_ros.rendering.street import Street

CAR = CAMVID.names.index("car")

PAINTS: tuple[Color, ...] = (
    (232, 234, 235), (206, 208, 210), (168, 170, 172), (120, 122, 124), (66, 66, 68), (36, 36, 38),
    (150, 80, 36), (96, 48, 28), (44, 36, 170), (30, 28, 112), (60, 80, 36), (46, 140, 200), (140, 160, 178),
)  # fmt: skip
GLASS: Color = (70, 62, 54)
MIRRORED: Color = (178, 164, 146)
RUBBER: Color = (34, 34, 36)


@dataclass(frozen=True, slots=True)
class Body:
    """Sizes of a type of vehicle, metres; `a` runs along it, forwards from its middle.

    Attributes:
        length, width, height: overall.
        belt: height of the lower edge of the windows.
        hood: how far the hood falls towards the front.
        cabin: a of the cabin's rear foot, rear top, front top and front foot.
        wheelbase, wheel: distance of the axles, and radius of the wheels.
        windows: panes on a side; 0 is a closed van.
    """

    length: float
    width: float
    height: float
    belt: float
    hood: float
    cabin: tuple[float, float, float, float]
    wheelbase: float
    wheel: float
    windows: int


BODIES: dict[str, Body] = {
    "hatchback": Body(4.0, 1.75, 1.5, 0.92, 0.14, (-1.9, -1.5, 0.45, 1.15), 2.5, 0.31, 2),
    "sedan": Body(4.7, 1.82, 1.46, 0.92, 0.15, (-1.75, -1.05, 0.5, 1.25), 2.8, 0.33, 2),
    "estate": Body(4.7, 1.82, 1.52, 0.94, 0.15, (-2.2, -1.95, 0.5, 1.2), 2.8, 0.33, 3),
    "suv": Body(4.6, 1.9, 1.74, 1.06, 0.12, (-2.15, -1.9, 0.5, 1.1), 2.7, 0.37, 3),
    "van": Body(5.1, 1.98, 2.15, 1.15, 0.1, (-2.45, -2.4, 1.2, 1.75), 3.1, 0.35, 0),
    "bus": Body(9.5, 2.45, 2.95, 1.15, 0.0, (-4.65, -4.6, 4.5, 4.65), 5.2, 0.46, 6),
}


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A parked or moving vehicle.

    Attributes:
        s, d: place at time 0.
        speed: along the street, m/s; negative comes towards the camera.
        turned: whether its front looks against the direction of s.
        body: key of BODIES.
        paint_color: colour of the sheet metal.
        braking: whether its brake lights shine.
    """

    s: float
    d: float
    speed: float
    turned: bool
    body: str
    paint_color: Color
    braking: bool

    def station(self, time: float) -> float:
        """Place along the street at a time, metres."""
        return self.s + self.speed * time

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the faces that look at the camera, from the ground up."""
        axes = self._axes(street, time)
        origin = street.place(self.station(time), self.d)
        eye = axes @ (painter.camera.position - origin)
        distance = float(np.linalg.norm(eye))
        model = _model(self.body)
        corners = painter.camera.view(model.corners @ axes + origin)
        normals = (model.normals @ axes).tolist()
        for surface, (x, y, z), (nx, ny, nz) in zip(model.surfaces, model.normals.tolist(), normals, strict=True):
            px, py, pz = surface.point
            if x * (eye[0] - px) + y * (eye[1] - py) + z * (eye[2] - pz) <= 0.02:
                continue
            color = self._color(surface.material, painter)
            if surface.material in ("lamp", "brake"):
                shown = painter.light.hazed(color, distance)
            else:
                shown = painter.light.lit(color, (nx, ny, nz), distance)
            painter.polygon(corners[surface.first : surface.last], shown, CAR)

    def _color(self, material: str, painter: Painter) -> Color:
        if material == "paint":
            return self.paint_color
        if material == "low paint":
            return self.paint_color[0] * 0.7, self.paint_color[1] * 0.7, self.paint_color[2] * 0.7
        if material == "lamp":
            return (225, 250, 255) if painter.light.night else (215, 220, 222)
        if material == "brake":
            return (60, 50, 250) if self.braking or painter.light.night else (42, 36, 165)
        return MATERIALS[material]

    def _axes(self, street: Street, time: float) -> FloatArray:
        """Rows: the vehicle's forward, right and up in world axes. (3, 3)."""
        heading = street.heading(self.station(time)) + (np.pi if self.turned else 0.0)
        sine, cosine = np.sin(heading), np.cos(heading)
        return np.array([[sine, cosine, 0.0], [cosine, -sine, 0.0], [0.0, 0.0, 1.0]])

    def footprint(self, street: Street, time: float) -> FloatArray:
        """Corners of the ground under the vehicle, (4, 2) world x and y."""
        body = BODIES[self.body]
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (body.length / 2, body.width / 2 + 0.06)
        flat: FloatArray = corners @ self._axes(street, time)[:2, :2] + street.place(self.station(time), self.d)[:2]
        return flat

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the vehicle's shadow. (N, 3)."""
        body = BODIES[self.body]
        half = body.width / 2
        local = [
            (a, side * half, z) for a in (-body.length / 2, body.length / 2) for side in (-1, 1) for z in (0, body.belt)
        ]
        local += [(a, side * half * 0.85, body.height) for a in body.cabin[1:3] for side in (-1, 1)]
        world: FloatArray = np.array(local) @ self._axes(street, time) + street.place(self.station(time), self.d)
        return world


MATERIALS: dict[str, Color] = {
    "glass": GLASS,
    "mirrored": MIRRORED,
    "rubber": RUBBER,
    "arch": (22, 22, 22),
    "hub": (160, 162, 164),
    "under": (26, 26, 28),
    "trim": (52, 52, 54),
    "plate": (190, 230, 235),
}


@dataclass(frozen=True, slots=True)
class Surface:
    """A flat convex piece of a vehicle: a range of corners, a point on it, and what it is made of."""

    first: int
    last: int
    point: tuple[float, float, float]
    material: str


@dataclass(frozen=True, slots=True)
class Model:
    """A type of vehicle as surfaces in painting order; axes are forward, right and up.

    Attributes:
        corners: (N, 3) of all surfaces.
        normals: (M, 3) unit vectors, one a surface.
        surfaces: M of them.
    """

    corners: FloatArray
    normals: FloatArray
    surfaces: tuple[Surface, ...]


@lru_cache(maxsize=len(BODIES))
def _model(name: str) -> Model:
    body = BODIES[name]
    pieces = [*_underside(body), *_lower(body), *_lights(body), *_wheels(body), *_cabin(body)]
    surfaces, first = [], 0
    for points, _, material in pieces:
        x, y, z = points.mean(axis=0).tolist()
        surfaces.append(Surface(first, first + len(points), (x, y, z), material))
        first += len(points)
    normals = np.array([normal / np.linalg.norm(normal) for _, normal, _ in pieces])
    return Model(np.concatenate([points for points, _, _ in pieces]), normals, tuple(surfaces))


Piece = tuple[FloatArray, FloatArray, str]
"""Corners (N, 3), an outward normal (3,) of any length, and a material."""


def _underside(body: Body) -> list[Piece]:
    """The dark space under the bumpers, and the tyres in it seen from behind and before."""
    half, end = body.width / 2 - 0.08, body.length / 2 - 0.12
    pieces = []
    for front in (-1.0, 1.0):
        normal = np.array([front, 0.0, 0.0])
        pieces.append((_rectangle((front * end, 0.0, 0.2), (0, half, 0), (0, 0, 0.13)), normal, "under"))
        for side in (-1.0, 1.0):
            place = (front * end, side * (half - 0.1), body.wheel / 2)
            pieces.append((_rectangle(place, (0, 0.11, 0), (0, 0, body.wheel / 2)), normal, "rubber"))
    for side in (-1.0, 1.0):
        sill = _rectangle((0, side * half, 0.2), (end, 0, 0), (0, 0, 0.12))
        pieces.append((sill, np.array([0.0, side, 0.0]), "under"))
    return pieces


def _lower(body: Body) -> list[Piece]:
    """The body below the windows: a hexagonal profile, extruded."""
    end, half, belt = body.length / 2, body.width / 2, body.belt
    middle = 0.55 * belt
    profile = np.array(
        [
            [-end + 0.08, 0.24], [-end, middle], [-end + 0.06, belt],
            [body.cabin[3], belt], [end - 0.22, belt - body.hood], [end, middle], [end - 0.08, 0.24],
        ]
    )  # fmt: skip
    pieces = []
    for side in (-1.0, 1.0):
        flank = np.stack([profile[:, 0], np.full(7, side * half), profile[:, 1]], axis=1)
        pieces.append((flank, np.array([0.0, side, 0.0]), "paint"))
        low = np.array(
            [[-end + 0.08, 0.24], [-end + 0.02, middle * 0.86], [end - 0.02, middle * 0.86], [end - 0.08, 0.24]]
        )
        pieces.append((np.insert(low, 1, side * half, axis=1), np.array([0.0, side, 0.0]), "low paint"))
        crease = _rectangle((0, side * half, belt - 0.13), (end - 0.3, 0, 0), (0, 0, 0.012))
        pieces.append((crease, np.array([0.0, side, 0.0]), "low paint"))
    for (a0, z0), (a1, z1) in pairwise(profile):
        quad = np.array([[a0, -half, z0], [a0, half, z0], [a1, half, z1], [a1, -half, z1]])
        low_end = max(z0, z1) <= middle + 1e-6
        pieces.append((quad, np.array([z0 - z1, 0.0, a1 - a0]), "low paint" if low_end else "paint"))
    return pieces


def _lights(body: Body) -> list[Piece]:
    """Head and tail lights, plates and the grille, just outside the body's ends."""
    end, half, belt = body.length / 2 + 0.01, body.width / 2, body.belt
    z = 0.55 * belt + 0.12
    pieces = []
    for front, lamp in ((1.0, "lamp"), (-1.0, "brake")):
        normal = np.array([front, 0.0, 0.0])
        for side in (-1.0, 1.0):
            wide, tall = (0.22, 0.08) if front > 0 else (0.13, 0.13)
            place = (front * end, side * (half - wide - 0.04), z)
            pieces.append((_rectangle(place, (0, wide, 0), (0, 0, tall)), normal, lamp))
        pieces.append((_rectangle((front * end, 0, 0.45), (0, 0.26, 0), (0, 0, 0.06)), normal, "plate"))
        pieces.append((_rectangle((front * end, 0, 0.3), (0, half - 0.1, 0), (0, 0, 0.05)), normal, "trim"))
    grille = _rectangle((end, 0, z - 0.02), (0, half - 0.55, 0), (0, 0, 0.07))
    pieces.append((grille, np.array([1.0, 0.0, 0.0]), "trim"))
    return pieces


def _wheels(body: Body) -> list[Piece]:
    """Wheel arches, tyres and hubs on both flanks."""
    angles = np.linspace(0, 2 * np.pi, 15)[:-1]
    ring = np.stack([np.cos(angles), np.zeros(14), np.sin(angles)], axis=1)
    pieces = []
    for side in (-1.0, 1.0):
        for axle in (-0.5, 0.5):
            center = np.array([axle * body.wheelbase, side * (body.width / 2 + 0.01), body.wheel])
            normal = np.array([0.0, side, 0.0])
            arch = center + ring * (body.wheel + 0.07)
            arch[:, 2] = arch[:, 2].clip(0.22)
            pieces.append((arch, normal, "arch"))
            pieces.append((center + ring * body.wheel, normal, "rubber"))
            pieces.append((center + ring * body.wheel * 0.62, normal, "hub"))
            pieces.append((center + ring * body.wheel * 0.2, normal, "trim"))
    return pieces


def _cabin(body: Body) -> list[Piece]:
    """The part above the belt, narrower at the top, and its windows."""
    low, high = body.width / 2 - 0.03, body.width / 2 - 0.05 - 0.24 * (body.height - body.belt) * (body.height < 2)
    rear_foot, rear_top, front_top, front_foot = body.cabin
    foot = np.array([[rear_foot, -low], [rear_foot, low], [front_foot, low], [front_foot, -low]])
    roof = np.array([[rear_top, -high], [rear_top, high], [front_top, high], [front_top, -high]])
    feet, tops = np.insert(foot, 2, body.belt - 0.02, axis=1), np.insert(roof, 2, body.height, axis=1)
    pieces: list[Piece] = [(tops, np.array([0.0, 0.0, 1.0]), "paint")]
    outward = ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0))
    for index, (a, r) in enumerate(outward):
        after = (index + 1) % 4
        quad = np.array([feet[index], feet[after], tops[after], tops[index]])
        normal = np.cross(quad[1] - quad[0], quad[3] - quad[0])
        normal *= np.sign(normal[0] * a + normal[1] * r)
        pieces.append((quad, normal, "paint"))
        panes = max(body.windows, 0) if r else 1
        if a < 0 and body.windows == 0:
            panes = 2
        pieces.extend(_panes(quad, normal, panes, front=a > 0))
        if r and body.windows == 0:  # a closed van has glass only in its doors
            door = quad if r > 0 else quad[[1, 0, 3, 2]]
            share = 0.72
            pieces.extend(
                _panes(
                    np.array([_mix(door[0], door[1], share), door[1], door[2], _mix(door[3], door[2], share)]),
                    normal,
                    1,
                    front=False,
                )
            )
    return pieces


def _panes(quad: FloatArray, normal: FloatArray, count: int, *, front: bool) -> list[Piece]:
    """Glass set into a cabin face, each with a part that mirrors the sky."""
    pieces: list[Piece] = []
    gap, bottom, top = 0.05, 0.1, 0.86
    for pane in range(count):
        left, right = (pane + gap) / count, (pane + 1 - gap) / count
        glass = np.array([_inside(quad, u, v) for u, v in ((left, bottom), (right, bottom), (right, top), (left, top))])
        pieces.append((glass, normal, "glass"))
        shine = (
            ((0.08, 0.98), (0.62, 0.98), (0.3, 0.55), (0.08, 0.6))
            if front
            else ((0.05, 0.98), (0.95, 0.98), (0.95, 0.72), (0.05, 0.62))
        )
        pieces.append((np.array([_inside(glass, u, v) for u, v in shine]), normal, "mirrored"))
    return pieces


def _inside(quad: FloatArray, u: float, v: float) -> FloatArray:
    """A point of a quad (4, 3) at the shares u along and v up."""
    return _mix(_mix(quad[0], quad[1], u), _mix(quad[3], quad[2], u), v)


def _mix(start: FloatArray, end: FloatArray, share: float) -> FloatArray:
    return start + (end - start) * share


def _rectangle(
    center: tuple[float, float, float], across: tuple[float, float, float], up: tuple[float, float, float]
) -> FloatArray:
    middle, half_width, half_height = np.array(center), np.array(across), np.array(up)
    return np.array(
        [
            middle - half_width - half_height, middle + half_width - half_height,
            middle + half_width + half_height, middle - half_width + half_height,
        ]
    )  # fmt: skip


def random_vehicle(
    rng: np.random.Generator, s: float, d: float, speed: float, *, turned: bool, parked: bool
) -> Vehicle:
    """A vehicle of any type; parked ones are never buses."""
    weights = [0.34, 0.2, 0.14, 0.18, 0.12, 0.0 if parked else 0.06]
    body = str(rng.choice(list(BODIES), p=np.array(weights) / sum(weights)))
    color = PAINTS[int(rng.integers(len(PAINTS)))]
    if body == "bus":
        color = ((40, 36, 180), (160, 90, 30), (70, 120, 50), (210, 215, 218))[int(rng.integers(4))]
    return Vehicle(s, d, speed, turned, body, color, braking=bool(not parked and rng.random() < 0.3))
