"""Pedestrians and cyclists, jointed and in motion."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Painter
from eseg_ros.rendering.street import Street

PEDESTRIAN = CAMVID.names.index("pedestrian")
BICYCLIST = CAMVID.names.index("bicyclist")

TOPS: tuple[Color, ...] = (
    (40, 40, 42), (70, 60, 55), (160, 90, 40), (40, 40, 180), (60, 130, 60), (210, 212, 214), (60, 160, 215),
    (130, 60, 110), (90, 90, 95), (150, 150, 60), (70, 110, 150), (180, 140, 220),
)  # fmt: skip
TROUSERS: tuple[Color, ...] = ((92, 62, 40), (45, 42, 40), (70, 70, 72), (70, 105, 130), (120, 90, 60), (30, 30, 34))
SKINS: tuple[Color, ...] = ((150, 180, 225), (120, 155, 205), (80, 115, 165), (45, 70, 110))
HAIRS: tuple[Color, ...] = ((22, 24, 28), (30, 50, 80), (70, 130, 175), (130, 132, 135), (30, 45, 110))
HELMETS: tuple[Color, ...] = ((230, 232, 235), (40, 40, 45), (40, 40, 200), (60, 200, 230), (190, 110, 40))
HIGH_VISIBILITY: Color = (60, 245, 215)

Limb = tuple[tuple[float, float, float], tuple[float, float, float], float, float, Color]
"""A limb from joint to joint (forward, right, up; metres), its radius at both, and its colour."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours and build of a person.

    Attributes:
        top, trousers, skin, hair: colours.
        scale: height as a share of 1.76 m.
        coat: length of a coat or skirt below the hip, metres; 0 for none.
        bag: colour of a rucksack, or None.
    """

    top: Color
    trousers: Color
    skin: Color
    hair: Color
    scale: float
    coat: float
    bag: Color | None


@dataclass(frozen=True, slots=True)
class Pedestrian:
    """Someone who walks or stands.

    Attributes:
        s, d: place at time 0.
        speed: along the street, m/s; negative comes towards the camera; 0 stands.
        heading: where they look, radians to the right of the street's direction.
        phase: of the step, radians.
        look: colours and build.
    """

    s: float
    d: float
    speed: float
    heading: float
    phase: float
    look: Look

    def station(self, time: float) -> float:
        """Place along the street at a time, metres."""
        return self.s + self.speed * time

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the limbs from far to near."""
        stride = self.phase + 2 * pi * abs(self.speed) * time / 1.5
        swing = 0.42 if self.speed else 0.05
        heading = street.heading(self.station(time)) + self.heading
        foot = street.place(self.station(time), self.d, 0.14)
        _paint_limbs(painter, _walking(self.look, stride, swing), foot, heading, self.look.scale, PEDESTRIAN)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the person's shadow. (N, 3)."""
        return _figure_points(street, self.station(time), self.d, 0.24, 1.76 * self.look.scale)


@dataclass(frozen=True, slots=True)
class Cyclist:
    """Someone on a bicycle.

    Attributes:
        s, d: place at time 0.
        speed: along the street, m/s; negative comes towards the camera; 0 waits.
        heading: where they look, radians to the right of the street's direction.
        phase: of the pedals, radians.
        look: colours and build of the rider; the bag may be a rucksack.
        frame: colour of the bicycle.
        helmet: colour.
    """

    s: float
    d: float
    speed: float
    heading: float
    phase: float
    look: Look
    frame: Color
    helmet: Color

    def station(self, time: float) -> float:
        """Place along the street at a time, metres."""
        return self.s + self.speed * time

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint wheels, bicycle and rider."""
        heading = street.heading(self.station(time)) + self.heading
        foot = street.place(self.station(time), self.d)
        axes = _axes(heading)
        for a in (-0.54, 0.54):
            _paint_wheel(painter, foot + np.array([a, 0.0, 0.35]) @ axes, axes)
        limbs = _bicycle(self.frame) + _riding(self.look, self.helmet, self.phase + self.speed * time * 1.3)
        _paint_limbs(painter, limbs, foot, heading, 1.0, BICYCLIST)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the rider's shadow. (N, 3)."""
        ends = [street.place(self.station(time) + a, self.d, z) for a in (-0.8, 0.8) for z in (0.0, 0.7)]
        return np.concatenate([ends, _figure_points(street, self.station(time), self.d, 0.24, 1.8)])


def random_pedestrian(rng: np.random.Generator, s: float, d: float) -> Pedestrian:
    """Someone who mostly walks up or down the street."""
    direction = rng.choice([-1, 0, 1], p=[0.4, 0.2, 0.4])
    heading = 0.0 if direction > 0 else pi if direction < 0 else rng.uniform(-pi, pi)
    return Pedestrian(
        s=s,
        d=d,
        speed=float(direction * rng.uniform(1.0, 1.6)),
        heading=float(heading + rng.uniform(-0.4, 0.4) * (direction != 0)),
        phase=rng.uniform(0, 2 * pi),
        look=_random_look(rng, scale=rng.uniform(0.72, 0.85) if rng.random() < 0.1 else rng.uniform(0.93, 1.08)),
    )


def random_cyclist(rng: np.random.Generator, s: float, d: float, speed: float, heading: float) -> Cyclist:
    """Someone on a bicycle; some wear a high-visibility jacket."""
    look = _random_look(rng, scale=1.0)
    if rng.random() < 0.6:
        look = Look(HIGH_VISIBILITY, look.trousers, look.skin, look.hair, 1.0, 0.0, look.bag)
    return Cyclist(
        s=s,
        d=d,
        speed=speed,
        heading=heading,
        phase=rng.uniform(0, 2 * pi),
        look=look,
        frame=_pick(rng, TOPS),
        helmet=_pick(rng, HELMETS),
    )


def _random_look(rng: np.random.Generator, scale: float) -> Look:
    return Look(
        top=_pick(rng, TOPS),
        trousers=_pick(rng, TROUSERS),
        skin=_pick(rng, SKINS),
        hair=_pick(rng, HAIRS),
        scale=scale,
        coat=rng.uniform(0.2, 0.5) if rng.random() < 0.35 else 0.0,
        bag=_pick(rng, TOPS) if rng.random() < 0.35 else None,
    )


def _walking(look: Look, stride: float, swing: float) -> list[Limb]:
    """The limbs of someone whose legs are at `stride` (radians) of their cycle."""
    limbs: list[Limb] = []
    shoes: Color = (34, 34, 38)
    for side, turn in ((-1, stride), (1, stride + pi)):
        angle = swing * sin(turn)
        lift = 0.5 * swing * max(0.0, cos(turn))
        hip = (0.0, side * 0.1, 0.9)
        knee = (0.44 * sin(angle) + 0.3 * lift, side * 0.1, 0.9 - 0.44 * cos(angle))
        back = angle - 1.6 * lift
        foot = (knee[0] + 0.42 * sin(back), side * 0.1, max(0.07, knee[2] - 0.42 * cos(back)))
        limbs.append((hip, knee, 0.125, 0.1, look.trousers))
        limbs.append((knee, foot, 0.1, 0.085, look.trousers))
        limbs.append((foot, (foot[0] + 0.15, foot[1], foot[2] - 0.01), 0.06, 0.05, shoes))
        arm = -0.8 * angle
        shoulder = (0.0, side * 0.22, 1.4)
        elbow = (0.3 * sin(arm), side * 0.26, 1.4 - 0.3 * cos(arm))
        hand = (elbow[0] + 0.26 * sin(arm + 0.3), side * 0.25, elbow[2] - 0.26 * cos(arm + 0.3))
        limbs.append((shoulder, elbow, 0.085, 0.075, look.top))
        limbs.append((elbow, hand, 0.075, 0.065, look.top))
        limbs.append((hand, hand, 0.05, 0.05, look.skin))
    limbs.append(((0.0, 0.0, 0.95), (0.0, 0.0, 1.34), 0.155, 0.2, look.top))
    if look.coat:
        limbs.append(((0.0, 0.0, 1.0), (0.0, 0.0, 0.92 - look.coat), 0.16, 0.22, look.top))
    if look.bag:
        limbs.append(((-0.17, 0.0, 1.05), (-0.17, 0.0, 1.33), 0.13, 0.13, look.bag))
    return limbs + _head(look, (0.02, 0.0, 1.66), look.hair)


def _riding(look: Look, helmet: Color, turn: float) -> list[Limb]:
    """The limbs of a rider whose pedals are at `turn` (radians)."""
    limbs: list[Limb] = []
    hip, shoulder = (-0.2, 0.0, 1.0), (0.12, 0.0, 1.44)
    for side, angle in ((-1, turn), (1, turn + pi)):
        pedal = (0.03 + 0.17 * cos(angle), side * 0.12, 0.3 + 0.17 * sin(angle))
        knee = (0.24 + 0.05 * cos(angle), side * 0.13, 0.7 + 0.12 * sin(angle))
        limbs.append(((hip[0], side * 0.1, hip[2]), knee, 0.105, 0.085, look.trousers))
        limbs.append((knee, pedal, 0.085, 0.06, look.trousers))
        limbs.append((pedal, (pedal[0] + 0.14, pedal[1], pedal[2]), 0.06, 0.05, (34, 34, 38)))
        elbow = (0.28, side * 0.26, 1.2)
        hand = (0.46, side * 0.25, 1.08)
        limbs.append(((shoulder[0], side * 0.19, shoulder[2]), elbow, 0.07, 0.06, look.top))
        limbs.append((elbow, hand, 0.075, 0.065, look.top))
    limbs.append((hip, shoulder, 0.165, 0.195, look.top))
    if look.bag:
        limbs.append(((-0.2, 0.0, 1.2), (-0.02, 0.0, 1.46), 0.14, 0.14, look.bag))
    return limbs + _head(look, (0.27, 0.0, 1.7), helmet)


def _head(look: Look, center: tuple[float, float, float], cap: Color) -> list[Limb]:
    a, r, z = center
    return [
        ((a - 0.03, r, z - 0.2), (a - 0.01, r, z - 0.1), 0.06, 0.06, look.skin),
        ((a + 0.02, r, z - 0.05), (a + 0.02, r, z + 0.02), 0.1, 0.105, look.skin),
        ((a - 0.04, r, z + 0.02), (a, r, z + 0.06), 0.11, 0.11, cap),
    ]


def _bicycle(color: Color) -> list[Limb]:
    """Frame, fork, handlebar, saddle, mudguards; tyres seen edge-on."""
    rear, crank, seat = (-0.54, 0.0, 0.35), (0.0, 0.0, 0.3), (-0.18, 0.0, 0.88)
    head, front = (0.38, 0.0, 0.86), (0.54, 0.0, 0.35)
    limbs: list[Limb] = [
        (start, end, 0.028, 0.028, color)
        for start, end in ((rear, crank), (crank, seat), (rear, seat), (seat, head), (crank, head), (head, front))
    ]
    dark: Color = (30, 30, 32)
    limbs.append(((0.42, -0.27, 1.05), (0.42, 0.27, 1.05), 0.03, 0.03, dark))
    limbs.append((head, (0.42, 0.0, 1.05), 0.03, 0.03, color))
    limbs.append(((-0.3, 0.0, 0.93), (-0.1, 0.0, 0.93), 0.075, 0.05, dark))
    for a in (-0.54, 0.54):
        limbs.append(((a, 0.0, 0.05), (a, 0.0, 0.65), 0.045, 0.045, dark))
    return limbs


def _paint_wheel(painter: Painter, center: FloatArray, axes: FloatArray) -> None:
    """A tyre, and spokes as a darkened disc, so that the whole wheel is the bicycle."""
    angles = np.linspace(0, 2 * pi, 19)[:-1]
    ring = np.stack([np.cos(angles), np.zeros(18), np.sin(angles)], axis=1) @ axes
    outer = painter.camera.view(center + ring * 0.35)
    painter.polygon(outer, painter.light.lit((38, 38, 40), (0.0, 0.0, 1.0), float(outer[0, 2])), BICYCLIST)
    spokes = painter.light.lit((120, 122, 124), (0.0, -1.0, 0.0), float(outer[0, 2]))
    painter.polygon(painter.camera.view(center + ring * 0.29), spokes, BICYCLIST)
    for angle in angles[:9:3]:
        along = np.array([cos(angle), 0.0, sin(angle)]) @ axes * 0.29
        ends = painter.camera.view(np.stack([center - along, center + along]))
        dark = painter.light.lit((70, 70, 72), (0.0, -1.0, 0.0), float(outer[0, 2]))
        painter.capsule(ends[0], ends[1], (0.012, 0.012), dark, BICYCLIST)


def _paint_limbs(
    painter: Painter, limbs: list[Limb], foot: FloatArray, heading: float, scale: float, label: int
) -> None:
    """Paint limbs from far to near, each with a lit side."""
    axes = _axes(heading) * scale
    joints = np.array([limb[:2] for limb in limbs]) @ axes + foot
    seen = painter.camera.view(joints.reshape(-1, 3)).reshape(-1, 2, 3)
    distance = float(seen[0, 0, 2])
    for index in np.argsort(-seen[..., 2].mean(axis=1), kind="stable"):
        _, _, r0, r1, color = limbs[index]
        start, end = seen[index]
        painter.rounded(start, end, (r0 * scale, r1 * scale), color, label, distance)


def _axes(heading: float) -> FloatArray:
    """Rows: forward, right and up of someone who looks along `heading`, in world axes. (3, 3)."""
    return np.array([[sin(heading), cos(heading), 0.0], [cos(heading), -sin(heading), 0.0], [0.0, 0.0, 1.0]])


def _figure_points(street: Street, s: float, d: float, radius: float, height: float) -> FloatArray:
    return np.array([street.place(s, d + side * radius, z) for side in (-1, 1) for z in (0.0, height)])


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]
