"""Painting from far to near: colour and label in one stroke.

The picture has four channels: blue, green, red and the class id. A primitive writes all four at once, so an
image and its label cannot disagree. It is painted at twice the size of the frame and reduced at the end.
"""

from __future__ import annotations

from functools import lru_cache
from math import atan2, hypot

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.camera import NEAR, Camera, FloatArray, clip_near
from eseg_ros.rendering.light import Color, Light

Image = npt.NDArray[np.uint8]

SUBPIXEL_BITS = 4
UP = (0.0, 0.0, 1.0)


class Painter:
    """A picture being painted.

    Attributes:
        pixels: (H, W, 4) uint8, blue, green, red and class id.
        camera: the camera the world is seen through.
        light: the light of the scene.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.pixels: Image = np.zeros((camera.height, camera.width, 4), np.uint8)

    def polygon(self, seen: FloatArray, color: Color, label: int, *, convex: bool = True) -> None:
        """Fill a polygon given in camera axes, (N, 3), cut at the near plane."""
        if seen[:, 2].min() < NEAR:
            seen = clip_near(seen)
            if len(seen) < 3:
                return
        self.outline(self.camera.project(seen), color, label, convex=convex)

    def outline(self, pixels: FloatArray, color: Color, label: int, *, convex: bool = True) -> None:
        """Fill a polygon given in pixels, (N, 2)."""
        fill = cv2.fillConvexPoly if convex else _fill_any
        fill(self.pixels, _fixed_point(pixels), (*color, label), cv2.LINE_8, SUBPIXEL_BITS)

    def face(self, corners: FloatArray, color: Color, normal: tuple[float, float, float], label: int) -> None:
        """Fill a lit polygon of the world, (N, 3), whatever side it shows."""
        lit = self.light.lit(color, normal, self.camera.distance(corners[0]))
        self.polygon(self.camera.view(corners), lit, label)

    def capsule(
        self, start: FloatArray, end: FloatArray, radii: tuple[float, float], color: Color, label: int
    ) -> None:
        """Fill a limb, post or ball: the outline around two spheres given in camera axes, (3,) each.

        Args:
            radii: metres at the start and at the end.
        """
        if start[2] < NEAR or end[2] < NEAR:
            return
        camera = self.camera
        (u0, v0), (u1, v1) = camera.project(np.stack([start, end])).tolist()
        r0, r1 = radii[0] * camera.focal / start[2], radii[1] * camera.focal / end[2]
        if hypot(u1 - u0, v1 - v0) < 0.2:
            v1 += 0.2
        arc = _half_circle(max(r0, r1) > 12) @ _turn(atan2(v1 - v0, u1 - u0))
        self.outline(np.concatenate([arc * -r0 + (u0, v0), arc * r1 + (u1, v1)]), color, label)

    def rounded(
        self,
        start: FloatArray,
        end: FloatArray,
        radii: tuple[float, float],
        color: Color,
        label: int,
        distance: float,
    ) -> None:
        """A capsule with a lit side towards the sun and a shaded one.

        Args:
            start, end: camera axes, (3,) each.
            distance: metres of haze.
        """
        self.capsule(start, end, radii, self.light.lit(_scaled(color, 0.74), UP, distance), label)
        sunwards = 0.3 if float(np.dot(self.light.sun, self.camera.rotation[0])) > 0 else -0.3
        shift = np.array([1.0, 0.0, 0.0]) * sunwards
        bright = self.light.lit(color, UP, distance)
        inner = (radii[0] * 0.66, radii[1] * 0.66)
        self.capsule(start + shift * radii[0], end + shift * radii[1], inner, bright, label)

    def post(
        self, start: FloatArray, end: FloatArray, radii: tuple[float, float], color: Color, label: int
    ) -> None:
        """A rounded capsule between two world points, (3,) each, where it is beyond the near plane."""
        seen = self.camera.view(np.stack([start, end]))
        self.rounded(seen[0], seen[1], radii, color, label, float(seen[0, 2]))

    def panel(
        self,
        corners: FloatArray,
        pyramid: list[Image],
        normal: tuple[float, float, float],
        label: int,
        *,
        see_through: bool = False,
    ) -> None:
        """Fill an upright rectangle of the world with a texture.

        Args:
            corners: (4, 3) world: bottom start, bottom end, top end, top start; start is the texture's left.
            pyramid: the texture, (H, W, 3), and its halvings, from `textures.pyramid`.
            see_through: black texels show what is behind, darkened.
        """
        seen = self.camera.view(corners)
        left, right = 0.0, 1.0
        near, far = seen[0, 2], seen[1, 2]
        if max(near, far) < NEAR * 1.5:
            return
        if near < NEAR:
            left = (NEAR - near) / (far - near)
        elif far < NEAR:
            right = (NEAR - near) / (far - near)
        along = np.stack([seen[1] - seen[0], seen[2] - seen[3]])
        quad = np.stack(
            [seen[0] + along[0] * left, seen[0] + along[0] * right, seen[3] + along[1] * right, seen[3] + along[1] * left]
        )
        pixels = self.camera.project(quad)
        window, mask = self._window(pixels)
        if mask is None:
            return
        distance = float(np.linalg.norm(quad[:2].mean(axis=0)))
        texture = _fitting(pyramid, pixels)
        rows, columns = texture.shape[:2]
        u0, u1 = left * columns - 0.5, right * columns - 0.5
        source = np.array([[u0, rows - 0.5], [u1, rows - 0.5], [u1, -0.5], [u0, -0.5]], np.float32)
        origin = np.array(self._origin(pixels), np.float32)
        transform = cv2.getPerspectiveTransform(source, (pixels - origin).astype(np.float32))
        size = (window.shape[1], window.shape[0])
        warped = cv2.warpPerspective(texture, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        shown = self._lit_texture(warped, normal, distance, label)
        if see_through:
            bars = cv2.inRange(warped, (8.0, 8.0, 8.0), (255.0, 255.0, 255.0))
            behind = cv2.multiply(window, (0.5, 0.5, 0.5, 0.0))
            behind[..., 3] = label
            cv2.copyTo(behind, mask, window)
            mask = cv2.bitwise_and(mask, bars)
        cv2.copyTo(shown, mask, window)

    def sprite(self, center: FloatArray, size: tuple[float, float], shape: Image, ramp: Image, label: int) -> None:
        """Stand a flat picture upright towards the camera.

        Args:
            center: (3,) world, the middle of the picture.
            size: width and height, metres.
            shape: (H, W, 2) uint8: brightness, and opacity cut at one half.
            ramp: (256, 3) uint8, the colour of each brightness, lit and hazed by the caller.
        """
        seen = self.camera.view(center[None])
        if seen[0, 2] < NEAR:
            return
        (u, v), scale = self.camera.project(seen)[0], self.camera.focal / seen[0, 2]
        half = np.array([size[0], size[1]]) * scale / 2
        corners = np.array([[u, v] - half, [u, v] + half])
        box = self._clipped(corners)
        if box is None:
            return
        x0, y0, x1, y1 = box
        while shape.shape[1] > 4 * half[0] and shape.shape[1] > 8:
            shape = cv2.resize(shape, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        zoom = np.array([2 * half[0] / shape.shape[1], 2 * half[1] / shape.shape[0]])
        transform = np.array(
            [[zoom[0], 0, corners[0, 0] - x0 + zoom[0] / 2], [0, zoom[1], corners[0, 1] - y0 + zoom[1] / 2]]
        )
        warped = cv2.warpAffine(shape, transform, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        solid = cv2.threshold(warped[..., 1], 127, 255, cv2.THRESH_BINARY)[1]
        shown = np.empty((*solid.shape, 4), np.uint8)
        shown[..., :3] = cv2.LUT(cv2.merge([warped[..., 0]] * 3), ramp[None])
        shown[..., 3] = label
        cv2.copyTo(shown, solid, self.pixels[y0:y1, x0:x1])

    def reduced(self) -> tuple[Image, Image]:
        """The frame at half the painted size: image (H, W, 3) and label (H, W).

        The image averages two by two pixels; the label is what most of them are.
        """
        size = (self.camera.width // 2, self.camera.height // 2)
        image: Image = cv2.resize(self.pixels[..., :3], size, interpolation=cv2.INTER_AREA)
        ids = self.pixels[..., 3]
        a, b, c, d = ids[::2, ::2], ids[::2, 1::2], ids[1::2, ::2], ids[1::2, 1::2]
        second = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        label = np.where((a == b) | (a == c) | (a == d), a, second)
        return image, label

    def _lit_texture(self, texture: Image, normal: tuple[float, float, float], distance: float, label: int) -> Image:
        """A texture (H, W, 3) in the scene's light and haze, with its label as the fourth channel."""
        black = self.light.lit((0.0, 0.0, 0.0), normal, distance)
        gray = self.light.lit((100.0, 100.0, 100.0), normal, distance)
        blue, green, red = ((lit - dark) / 100 for lit, dark in zip(gray, black, strict=True))
        matrix = np.array(
            [[blue, 0, 0, black[0]], [0, green, 0, black[1]], [0, 0, red, black[2]], [0, 0, 0, label]], np.float32
        )
        shown: Image = cv2.transform(texture, matrix)
        return shown

    def _clipped(self, pixels: FloatArray) -> tuple[int, int, int, int] | None:
        """The box around pixels (N, 2), cut to the picture: x0, y0, x1, y1; None outside it."""
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
        x1, y1 = min(self.camera.width, int(high[0]) + 2), min(self.camera.height, int(high[1]) + 2)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 and high.min() > -2 else None

    def _origin(self, pixels: FloatArray) -> tuple[int, int]:
        box = self._clipped(pixels)
        assert box is not None
        return box[0], box[1]

    def _window(self, pixels: FloatArray) -> tuple[Image, Image | None]:
        """The part of the picture around a convex polygon (N, 2), and the polygon's mask in it."""
        box = self._clipped(pixels)
        if box is None:
            return self.pixels[:0, :0], None
        x0, y0, x1, y1 = box
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(mask, _fixed_point(pixels - (x0, y0)), 255, cv2.LINE_8, SUBPIXEL_BITS)
        return self.pixels[y0:y1, x0:x1], mask


def _fixed_point(pixels: FloatArray) -> npt.NDArray[np.int32]:
    return np.rint(np.clip(pixels, -16000, 16000) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _fill_any(pixels: Image, points: npt.NDArray[np.int32], color: tuple[float, ...], line: int, shift: int) -> None:
    cv2.fillPoly(pixels, [points], color, line, shift)


def _fitting(pyramid: list[Image], pixels: FloatArray) -> Image:
    """The level of a texture pyramid that fits the size of a quad (4, 2), narrowed where it is foreshortened."""
    tall = max(abs(pixels[3, 1] - pixels[0, 1]), abs(pixels[2, 1] - pixels[1, 1]))
    wide = np.linalg.norm(pixels[1] - pixels[0])
    level = 0
    while level + 1 < len(pyramid) and pyramid[level].shape[0] > 1.6 * tall:
        level += 1
    texture = pyramid[level]
    if texture.shape[1] > 3 * wide:
        texture = cv2.resize(
            texture, (max(2, int(2 * wide)), texture.shape[0]), interpolation=cv2.INTER_AREA
        )
    return texture


def _scaled(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


@lru_cache(maxsize=2)
def _half_circle(smooth: bool) -> FloatArray:
    """Points on the right half of the unit circle, (N, 2)."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 11 if smooth else 6)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _turn(angle: float) -> FloatArray:
    """Rotation for row vectors, (2, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])
