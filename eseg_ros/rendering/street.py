"""The course and cross-section of a street.

Things stand in street coordinates: `s` metres along the street, `d` metres to the right of its middle, `z` up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, cos, sin

import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.camera import FloatArray


@dataclass(frozen=True, slots=True)
class Street:
    """A gently bending street; distances are metres from the middle line, lefts and rights as (left, right).

    Attributes:
        amplitude, wavenumber, phase: the middle line runs along x = amplitude * sin(wavenumber * y + phase).
        lane: width of the traffic lane on either side.
        cycle: width of the cycle lane beside it.
        parking: width of the parking lane, 0 where there is none.
        pavement: width of the pavement.
        drives_left: whether traffic keeps to the left.
    """

    amplitude: float
    wavenumber: float
    phase: float
    lane: float
    cycle: float
    parking: tuple[float, float]
    pavement: tuple[float, float]
    drives_left: bool

    def kerb(self, side: int) -> float:
        """Distance of the kerb; side is -1 (left) or 1 (right)."""
        return self.lane + self.cycle + self.parking[side > 0]

    def building_line(self, side: int) -> float:
        """Distance where the pavement ends."""
        return self.kerb(side) + self.pavement[side > 0]

    def own_side(self) -> int:
        """The side the camera drives on: -1 or 1."""
        return -1 if self.drives_left else 1

    def bend(self, s: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Sideways offset of the middle line, metres."""
        offset: npt.NDArray[np.floating] = self.amplitude * np.sin(self.wavenumber * s + self.phase)
        return offset

    def heading(self, s: float) -> float:
        """Direction of the middle line at s, radians to the right of the y axis."""
        return atan(self.amplitude * self.wavenumber * cos(self.wavenumber * s + self.phase))

    def place(self, s: float, d: float, z: float = 0.0) -> FloatArray:
        """World coordinates (3,) of a point in street coordinates."""
        return np.array([d + self.amplitude * sin(self.wavenumber * s + self.phase), s, z])


def random_street(rng: np.random.Generator) -> Street:
    """A street with random bend, lanes, parking and pavements."""
    wavelength = rng.uniform(180, 400)
    wavenumber = 2 * np.pi / wavelength
    slope = rng.uniform(0.0, 0.14)
    parking = [2.2 if rng.random() < 0.42 else 0.0 for _ in range(2)]
    return Street(
        amplitude=slope / wavenumber,
        wavenumber=wavenumber,
        phase=rng.uniform(0, 2 * np.pi),
        lane=rng.uniform(2.9, 3.5),
        cycle=rng.uniform(1.1, 1.4),
        parking=(parking[0], parking[1]),
        pavement=(rng.uniform(3.0, 5.2), rng.uniform(3.0, 5.2)),
        drives_left=bool(rng.random() < 0.6),
    )
