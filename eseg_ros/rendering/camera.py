"""The pinhole camera that drives along the street.

World axes: x to the right of the street, y along it, z up; metres. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

NEAR = 0.4
"""Metres in front of the camera where surfaces are cut off."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera with square pixels and its principal point in the middle of the image.

    Attributes:
        width, height: image size, pixels.
        focal: focal length, pixels.
        position: (3,) world coordinates, metres.
        rotation: (3, 3) rows are the camera's right, down and forward in world axes.
    """

    width: int
    height: int
    focal: float
    position: FloatArray
    rotation: FloatArray

    def view(self, points: FloatArray) -> FloatArray:
        """World points (N, 3) in camera axes (N, 3)."""
        seen: FloatArray = (points - self.position) @ self.rotation.T
        return seen

    def project(self, seen: FloatArray) -> FloatArray:
        """Camera points (N, 3) with positive depth on the image (N, 2); a pixel's centre has whole coordinates."""
        center = ((self.width - 1) / 2, (self.height - 1) / 2)
        pixels: FloatArray = seen[:, :2] * (self.focal / seen[:, 2:]) + center
        return pixels

    def distance(self, point: FloatArray) -> float:
        """Metres from the camera to a world point (3,)."""
        return float(np.linalg.norm(point - self.position))


def orientation(yaw: float, pitch: float, roll: float) -> FloatArray:
    """Camera rotation from yaw (right), pitch (up) and roll (clockwise), radians. (3, 3)."""
    forward = np.array([sin(yaw) * cos(pitch), cos(yaw) * cos(pitch), sin(pitch)])
    level = np.array([cos(yaw), -sin(yaw), 0.0])
    down = np.cross(forward, level)
    right = level * cos(roll) + down * sin(roll)
    return np.stack([right, np.cross(forward, right), forward])


def clip_near(seen: FloatArray) -> FloatArray:
    """The part of a polygon (N, 3) in camera axes beyond the near plane. (M, 3)."""
    return _clip(seen, seen[:, 2] - NEAR)


def clip_box(pixels: FloatArray, limit: float) -> FloatArray:
    """The part of a polygon (N, 2) whose coordinates lie within -limit and limit. (M, 2)."""
    for axis in (0, 1):
        for sign in (-1.0, 1.0):
            pixels = _clip(pixels, limit + sign * pixels[:, axis])
    return pixels


def _clip(points: FloatArray, inside: FloatArray) -> FloatArray:
    """Cut a polygon (N, D) where `inside` (N,) is negative (Sutherland and Hodgman 1974)."""
    if inside.min(initial=0.0) >= 0:
        return points
    kept: list[FloatArray] = []
    for index, (point, own) in enumerate(zip(points, inside, strict=True)):
        before, other = points[index - 1], inside[index - 1]
        if (own >= 0) != (other >= 0):
            kept.append(before + (point - before) * (other / (other - own)))
        if own >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, points.shape[1])
