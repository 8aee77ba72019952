"""Daylight: the sun, the sky's own light, and the haze between the camera and a surface."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, pi, sin

import numpy as np

Color = tuple[float, float, float]
"""Blue, green, red, each 0-255."""


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one drive.

    Attributes:
        sun: unit vector from the ground towards the sun, world axes.
        direct: strength of the sun, 0 under an overcast sky.
        ambient: strength of the sky's light, the same from all sides.
        tint: factors on blue, green and red.
        haze: colour that distance fades to.
        visibility: distance at which 63 % of a surface's colour is lost to haze, metres.
        zenith, horizon: colours of the sky.
        cloud: share of the sky that clouds cover, 0-1.
        night: how many windows and lamps are lit, 0-1.
    """

    sun: tuple[float, float, float]
    direct: float
    ambient: float
    tint: Color
    haze: Color
    visibility: float
    zenith: Color
    horizon: Color
    cloud: float
    night: float = 0.0

    def lit(self, color: Color, normal: tuple[float, float, float], distance: float) -> Color:
        """Colour of a matt surface with this unit normal, seen from `distance` metres."""
        x, y, z = self.sun
        facing = normal[0] * x + normal[1] * y + normal[2] * z
        strength = self.ambient * (0.9 + 0.1 * normal[2]) + self.direct * max(0.0, facing)
        return self.hazed(
            (
                color[0] * strength * self.tint[0],
                color[1] * strength * self.tint[1],
                color[2] * strength * self.tint[2],
            ),
            distance,
        )

    def hazed(self, color: Color, distance: float) -> Color:
        """A colour faded into the haze of `distance` metres, within 0-255."""
        clear = exp(-distance / self.visibility)
        veil = 1.0 - clear
        blue, green, red = self.haze
        return (
            min(255.0, color[0] * clear + blue * veil),
            min(255.0, color[1] * clear + green * veil),
            min(255.0, color[2] * clear + red * veil),
        )


def random_light(rng: np.random.Generator) -> Light:
    """One of clear, hazy, overcast or dusk, with its own sun and colours."""
    azimuth = rng.uniform(0, 2 * pi)
    kind = rng.choice(["clear", "hazy", "overcast", "dusk"], p=[0.45, 0.15, 0.28, 0.12])
    if kind == "clear":
        warm = rng.uniform(0, 0.08)
        return Light(
            sun=_sun(azimuth, rng.uniform(0.45, 1.05)),
            direct=rng.uniform(0.42, 0.6),
            ambient=rng.uniform(0.58, 0.7),
            tint=(0.99 - warm, 1.0, 1.0 + warm),
            haze=(232.0, 214.0, 200.0),
            visibility=rng.uniform(350, 900),
            zenith=(rng.uniform(195, 225), rng.uniform(130, 160), rng.uniform(70, 110)),
            horizon=(245.0, 228.0, rng.uniform(195, 215)),
            cloud=rng.uniform(0.05, 0.6),
        )
    if kind == "hazy":
        return Light(
            sun=_sun(azimuth, rng.uniform(0.3, 0.6)),
            direct=rng.uniform(0.2, 0.32),
            ambient=rng.uniform(0.7, 0.82),
            tint=(0.97, 1.0, 1.03),
            haze=(224.0, 226.0, 226.0),
            visibility=rng.uniform(140, 260),
            zenith=(232.0, 218.0, 205.0),
            horizon=(240.0, 240.0, 238.0),
            cloud=rng.uniform(0.3, 0.8),
        )
    if kind == "overcast":
        gray = rng.uniform(185, 235)
        return Light(
            sun=_sun(azimuth, 1.0),
            direct=rng.uniform(0.0, 0.1),
            ambient=rng.uniform(0.72, 0.88),
            tint=(1.03, 1.0, 0.97),
            haze=(gray, gray - 3, gray - 8),
            visibility=rng.uniform(250, 600),
            zenith=(gray - 22, gray - 28, gray - 36),
            horizon=(gray + 14, gray + 12, gray + 8),
            cloud=rng.uniform(0.75, 1.0),
        )
    return Light(
        sun=_sun(azimuth, rng.uniform(0.16, 0.3)),
        direct=rng.uniform(0.15, 0.3),
        ambient=rng.uniform(0.44, 0.56),
        tint=(1.0, 0.95, 1.03),
        haze=(165.0, 165.0, 200.0),
        visibility=rng.uniform(300, 600),
        zenith=(175.0, 125.0, 95.0),
        horizon=(160.0, 190.0, 245.0),
        cloud=rng.uniform(0.1, 0.6),
        night=rng.uniform(0.3, 0.8),
    )


def _sun(azimuth: float, elevation: float) -> tuple[float, float, float]:
    return cos(elevation) * sin(azimuth), cos(elevation) * cos(azimuth), sin(elevation)
