"""Painting from far to near: colour and label in one stroke.

The picture has four channels: blue, green, red and the class id. A primitive writes all four at once, so an
image and its label cannot disagree. It is painted at twice the size of the frame and reduced at the end.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.camera import NEAR, Camera, FloatArray, clip_box, clip_near
from eseg_ros.rendering.light import Color, Light

Image = npt.NDArray[np.uint8]

SUBPIXEL_BITS = 4
GUARD = 6000.0
"""Largest coordinate that OpenCV's polygon filling takes without overflow, with room to spare, pixels."""
UP = (0.0, 0.0, 1.0)


class Texture:
    """A picture to fill panels with, and its smaller forms, each made when it is first needed.

    Args:
        pixels: (H, W, 3) uint8.
    """

    def __init__(self, pixels: Image) -> None:
        self._sizes: dict[tuple[int, int], Image] = {(0, 0): pixels}

    def fitting(self, wide: float, tall: float) -> Image:
        """The form with about as many texels as the painted pixels it has to fill, or fewer."""
        full = self._sizes[0, 0]
        rows, columns = full.shape[:2]
        narrower = max(0, int(np.log2(max(1.0, columns / max(2.0, 2.0 * wide)))))
        shorter = max(0, int(np.log2(max(1.0, rows / max(4.0, 1.2 * tall)))))
        if (narrower, shorter) not in self._sizes:
            size = (max(1, columns >> narrower), max(1, rows >> shorter))
            self._sizes[narrower, shorter] = cv2.resize(full, size, interpolation=cv2.INTER_AREA)
        return self._sizes[narrower, shorter]

    def mean_color(self) -> Color:
        """The average of its pixels."""
        blue, green, red, _ = cv2.mean(self._sizes[0, 0])
        return blue, green, red


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
        points = fixed_point(pixels)
        if not len(points):
            return
        if convex:
            cv2.fillConvexPoly(self.pixels, points, (*color, label), cv2.LINE_8, SUBPIXEL_BITS)
        else:
            cv2.fillPoly(self.pixels, [points], (*color, label), cv2.LINE_8, SUBPIXEL_BITS)

    def face(self, corners: FloatArray, color: Color, normal: tuple[float, float, float], label: int) -> None:
        """Fill a lit polygon of the world, (N, 3), whatever side it shows."""
        lit = self.light.lit(color, normal, self.camera.distance(corners[0]))
        self.polygon(self.camera.view(corners), lit, label)

    def capsule(self, start: FloatArray, end: FloatArray, radii: tuple[float, float], color: Color, label: int) -> None:
        """Fill a limb, post or ball: the outline around two spheres given in camera axes, (3,) each.

        Args:
            radii: metres at the start and at the end.
        """
        (x0, y0, z0), (x1, y1, z1) = start.tolist(), end.tolist()
        if z0 < NEAR or z1 < NEAR:
            return
        focal, center = self.camera.focal, complex(self.camera.width - 1, self.camera.height - 1) / 2
        first, last = complex(x0, y0) * (focal / z0) + center, complex(x1, y1) * (focal / z1) + center
        r0, r1 = radii[0] * focal / z0, radii[1] * focal / z1
        length = abs(last - first)
        along = (last - first) / length if length > 0.1 else 1.0
        arc = _half_circle(max(r0, r1) > 12)
        outline = np.concatenate([first - arc * (r0 * along), last + arc * (r1 * along)])
        self.outline(outline.view(np.float64).reshape(-1, 2), color, label)

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
        if radii[0] * self.camera.focal < 2.2 * distance:  # too thin to show two tones
            self.capsule(start, end, radii, self.light.lit(_scaled(color, 0.88), UP, distance), label)
            return
        self.capsule(start, end, radii, self.light.lit(_scaled(color, 0.74), UP, distance), label)
        sunwards = 0.3 if float(np.dot(self.light.sun, self.camera.rotation[0])) > 0 else -0.3
        shift = np.array([1.0, 0.0, 0.0]) * sunwards
        bright = self.light.lit(color, UP, distance)
        inner = (radii[0] * 0.66, radii[1] * 0.66)
        self.capsule(start + shift * radii[0], end + shift * radii[1], inner, bright, label)

    def post(self, start: FloatArray, end: FloatArray, radii: tuple[float, float], color: Color, label: int) -> None:
        """A rounded capsule between two world points, (3,) each, where it is beyond the near plane."""
        seen = self.camera.view(np.stack([start, end]))
        self.rounded(seen[0], seen[1], radii, color, label, float(seen[0, 2]))

    def panel(
        self,
        corners: FloatArray,
        texture: Texture,
        normal: tuple[float, float, float],
        label: int,
        *,
        see_through: bool = False,
    ) -> None:
        """Fill an upright rectangle of the world with a texture.

        Args:
            corners: (4, 3) world: bottom start, bottom end, top end, top start; start is the texture's left.
            texture: what to fill it with.
            see_through: black texels show what is behind, darkened.
        """
        seen = self.camera.view(corners)
        left, right = 0.0, 1.0
        near, far = seen[[0, 3], 2].min(), seen[[1, 2], 2].min()  # a tilted camera sees the top at another depth
        if max(near, far) < 1.5 * NEAR:
            return
        if near < NEAR:
            left = (NEAR - near) / (far - near)
        elif far < NEAR:
            right = (NEAR - near) / (far - near)
        along = np.stack([seen[1] - seen[0], seen[2] - seen[3]])
        quad = np.stack(
            [
                seen[0] + along[0] * left,
                seen[0] + along[0] * right,
                seen[3] + along[1] * right,
                seen[3] + along[1] * left,
            ]
        )
        pixels = self.camera.project(quad)
        box = self._clipped(pixels)
        if box is None:
            return
        window = self.pixels[box[1] : box[3], box[0] : box[2]]
        mask = np.zeros(window.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(pixels - (box[0], box[1])), 255, cv2.LINE_8, SUBPIXEL_BITS)
        distance = float(np.linalg.norm(quad[:2].mean(axis=0)))
        tall = max(abs(pixels[3, 1] - pixels[0, 1]), abs(pixels[2, 1] - pixels[1, 1]))
        fitting = texture.fitting(float(np.linalg.norm(pixels[1] - pixels[0])), float(tall))
        rows, columns = fitting.shape[:2]
        u0, u1 = left * columns - 0.5, right * columns - 0.5
        source = np.array([[u0, rows - 0.5], [u1, rows - 0.5], [u1, -0.5], [u0, -0.5]], np.float32)
        transform = cv2.getPerspectiveTransform(source, (pixels - (box[0], box[1])).astype(np.float32))
        lit = self._lit_texture(fitting, normal, distance)
        if see_through:
            lit[..., 3] = cv2.inRange(fitting, (1.0, 1.0, 1.0), (255.0, 255.0, 255.0))
        size = (window.shape[1], window.shape[0])
        shown = cv2.warpPerspective(lit, transform, size, borderMode=cv2.BORDER_REPLICATE)
        if see_through:
            behind = cv2.multiply(window, (0.5, 0.5, 0.5, 0.0))
            behind[..., 3] = label
            cv2.copyTo(behind, mask, window)
            mask &= cv2.inRange(shown[..., 3], 100.0, 255.0)
        shown[..., 3] = label
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
        corners = np.stack([-half, half]) + np.array([u, v])
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
        colored = cv2.LUT(cv2.merge([shape[..., 0]] * 3), ramp[None])
        picture = cv2.merge([*cv2.split(colored), shape[..., 1]])
        shown = cv2.warpAffine(picture, transform, (x1 - x0, y1 - y0))
        solid = cv2.inRange(shown[..., 3], 128.0, 255.0)
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

    def _lit_texture(self, texture: Image, normal: tuple[float, float, float], distance: float) -> Image:
        """A texture (H, W, 3) in the scene's light and haze, (H, W, 4) with an empty fourth channel."""
        black = self.light.lit((0.0, 0.0, 0.0), normal, distance)
        gray = self.light.lit((100.0, 100.0, 100.0), normal, distance)
        blue, green, red = ((lit - dark) / 100 for lit, dark in zip(gray, black, strict=True))
        matrix = np.array(
            [[blue, 0, 0, black[0]], [0, green, 0, black[1]], [0, 0, red, black[2]], [0, 0, 0, 0]], np.float32
        )
        shown: Image = cv2.transform(texture, matrix)
        return shown

    def _clipped(self, pixels: FloatArray) -> tuple[int, int, int, int] | None:
        """The box around pixels (N, 2), cut to the picture: x0, y0, x1, y1; None outside it."""
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
        x1, y1 = min(self.camera.width, int(high[0]) + 2), min(self.camera.height, int(high[1]) + 2)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 and high.min() > -2 else None


def fixed_point(pixels: FloatArray) -> npt.NDArray[np.int32]:
    """Coordinates as OpenCV takes them, cut to a guard band around the picture; (0, 2) where nothing is left."""
    if max(pixels.max(), -pixels.min()) > GUARD:
        pixels = clip_box(pixels, GUARD)
    return np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _scaled(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


@lru_cache(maxsize=2)
def _half_circle(smooth: bool) -> npt.NDArray[np.complex128]:
    """Points on the right half of the unit circle of the complex plane, (N,)."""
    arc: npt.NDArray[np.complex128] = np.exp(1j * np.linspace(-np.pi / 2, np.pi / 2, 11 if smooth else 6))
    return arc
