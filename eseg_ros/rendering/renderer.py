"""Street scenes from a seed: a drive, or one frame of a drive nobody else sees.

The same seed gives the same bytes with the same versions of NumPy and OpenCV, in any process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sin

import cv2
import numpy as np

from eseg_ros.errors import UsageError
from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import Camera, orientation
from eseg_ros.rendering.painter import Image, Painter
from eseg_ros.rendering.scene import SPEED, Scene, random_scene
from eseg_ros.rendering.sensor import Sensor, random_sensor
from eseg_ros.rendering.street import Street

SMALLEST = 32
"""Pixels on a side below which a frame shows nothing."""
SPECK = 1 / 14400
"""Share of the image below which a connected piece of a class is marked as ignored: 12 pixels at 480x360."""


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """A picture with its truth.

    Attributes:
        image: (H, W, 3) uint8, blue, green, red.
        label: (H, W) uint8, ids of `labels.CAMVID`; its ignore_id where a piece is too small to be named.
        stamp_ns: time since the start of the drive, nanoseconds.
    """

    image: Image
    label: Image
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class Mount:
    """How the camera sits in its vehicle and how that rocks; lengths in metres, angles in radians.

    Attributes:
        focal: focal length as a share of the image's width.
        height: over the road.
        offset: sideways from the middle of the lane.
        yaw, pitch, roll: at rest.
        sway: how far it rocks.
        phase: of the rocking.
    """

    focal: float
    height: float
    offset: float
    yaw: float
    pitch: float
    roll: float
    sway: float
    phase: float

    def camera(self, street: Street, time: float, width: int, height: int) -> Camera:
        """The camera at a time (seconds) of the drive, for a picture of the given size."""
        s = SPEED * time
        d = street.own_side() * street.lane / 2 + self.offset + 0.12 * sin(0.5 * time + self.phase)
        rock = self.sway * np.sin(np.array([1.1, 2.3, 1.7]) * time + self.phase)
        return Camera(
            width=width,
            height=height,
            focal=self.focal * width,
            position=street.place(s, d, self.height),
            rotation=orientation(
                street.heading(s + 4.0) + self.yaw + rock[0], self.pitch + rock[1], self.roll + rock[2]
            ),
        )


def render_drive(seed: int, frames: int, rate_hz: float, width: int, height: int) -> Iterator[RenderedFrame]:
    """A drive along a street, frame by frame.

    Args:
        seed: chooses street, light, camera and everything else.
        frames: how many.
        rate_hz: frames a second; the camera drives 8 m/s.
        width, height: of the frames, pixels.

    Raises:
        UsageError: fewer than one frame, a rate that is not positive, or a size under 32 pixels.
    """
    if frames < 1 or not rate_hz > 0:
        raise UsageError(f"a drive of {frames} frames at {rate_hz} Hz; expected at least one frame and a positive rate")
    _check_size(width, height)
    rng = np.random.default_rng([seed, 1])
    mount, sensor = _random_mount(rng), random_sensor(rng)
    scene = random_scene(rng, length=SPEED * frames / rate_hz)
    return (
        _render(scene, mount, sensor, round(index * 1e9 / rate_hz), (width, height), [seed, 2, index])
        for index in range(frames)
    )


def render_frame(seed: int | tuple[int, ...], width: int, height: int) -> RenderedFrame:
    """One frame of a drive of its own: another seed is another street, light and camera.

    Raises:
        UsageError: a size under 32 pixels.
    """
    _check_size(width, height)
    seeds = [seed] if isinstance(seed, int) else list(seed)
    rng = np.random.default_rng([*seeds, 3])
    mount, sensor = _random_mount(rng), random_sensor(rng)
    return _render(random_scene(rng, length=0.0), mount, sensor, 0, (width, height), [*seeds, 4])


def _render(
    scene: Scene, mount: Mount, sensor: Sensor, stamp_ns: int, size: tuple[int, int], noise_seed: list[int]
) -> RenderedFrame:
    """Paint at twice the size, reduce, and take the picture."""
    width, height = size
    time = stamp_ns * 1e-9
    painter = Painter(mount.camera(scene.street, time, 2 * width, 2 * height), scene.light)
    scene.paint(painter, time)
    image, label = painter.reduced()
    _ignore_specks(label)
    return RenderedFrame(sensor.record(image, np.random.default_rng(noise_seed)), label, stamp_ns)


def _ignore_specks(label: Image) -> None:
    """Mark pieces too small to be named, in place: what shows of a car behind a post is nobody's to judge."""
    least = max(2, round(label.size * SPECK))
    for class_id in range(len(CAMVID)):
        mask = cv2.inRange(label, class_id, class_id)
        x0, y0, width, height = cv2.boundingRect(mask)
        if not width:
            continue
        window = label[y0 : y0 + height, x0 : x0 + width]
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(
            mask[y0 : y0 + height, x0 : x0 + width], connectivity=8, ltype=cv2.CV_16U
        )
        for piece in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least):
            x, y, w, h = stats[piece, :4]
            window[y : y + h, x : x + w][pieces[y : y + h, x : x + w] == piece] = CAMVID.ignore_id


def _random_mount(rng: np.random.Generator) -> Mount:
    return Mount(
        focal=rng.uniform(0.85, 1.15),
        height=rng.uniform(1.3, 1.75),
        offset=rng.uniform(-0.3, 0.3),
        yaw=rng.normal(0.0, 0.035),
        pitch=rng.normal(-0.015, 0.025),
        roll=rng.normal(0.0, 0.012),
        sway=rng.uniform(0.001, 0.005),
        phase=rng.uniform(0, 6.28),
    )


def _check_size(width: int, height: int) -> None:
    if min(width, height) < SMALLEST:
        raise UsageError(f"frames of {width}x{height} pixels; expected at least {SMALLEST}x{SMALLEST}")
