"""What lens and sensor do to a picture: blur, vignetting, exposure, white balance, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.rendering.painter import Image
from eseg_ros.rendering.textures import to_bytes


@dataclass(frozen=True, slots=True)
class Sensor:
    """The look of one camera's pictures; lengths are shares of the image's width.

    Attributes:
        exposure: brightness that its automatic exposure aims at, mean of 0-255.
        white_balance: factors on blue, green and red.
        contrast: factor around mid-gray.
        saturation: factor on the distance from gray.
        vignette: share of light lost in the corners.
        defocus: standard deviation of the blur.
        shake: length of vertical motion blur.
        noise: deviation of the sensor's noise, of 255.
        grain: size of the noise, pixels.
    """

    exposure: float
    white_balance: tuple[float, float, float]
    contrast: float
    saturation: float
    vignette: float
    defocus: float
    shake: float
    noise: float
    grain: float

    def record(self, image: Image, rng: np.random.Generator) -> Image:
        """The picture (H, W, 3) uint8 that this camera takes; `rng` seeds the noise."""
        height, width = image.shape[:2]
        sigma = self.defocus * width
        if sigma > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        streak = round(self.shake * width)
        if streak > 1:
            image = cv2.blur(image, (1, streak))
        light = image.astype(np.float32)
        gains = self._gains(width, height)
        gray = np.full((3, 3), (1 - self.saturation) / 3, np.float32) + np.eye(3, dtype=np.float32) * self.saturation
        balance = np.array(self.white_balance, np.float32)[:, None] * gray * self.contrast * self._gain(image)
        light = cv2.transform(light, balance) * gains + np.float32(118 * (1 - self.contrast))
        light += self._noise(width, height, rng)
        return to_bytes(light + np.float32(0.5))

    def _gain(self, image: Image) -> float:
        """What the automatic exposure does to a picture: most of what its target asks for, within limits."""
        metered = sum(cv2.mean(image)[:3]) / 3
        return float(np.clip((self.exposure / max(metered, 1.0)) ** 0.8, 0.7, 2.0))

    def _gains(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """Vignetting, (H, W, 1)."""
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        kept: npt.NDArray[np.float32] = 1 - np.float32(self.vignette / 2) * (x * x + y * y)
        return kept[..., None]

    def _noise(self, width: int, height: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Noise that is partly common to the three colours, (H, W, 3)."""
        size = (max(2, round(height / self.grain)), max(2, round(width / self.grain)))
        chroma = rng.standard_normal((size[0] // 2 + 1, size[1] // 2 + 1, 3), dtype=np.float32)
        luma = rng.standard_normal(size, dtype=np.float32)
        noise: npt.NDArray[np.float32] = cv2.resize(chroma, (width, height)) * np.float32(0.5 * self.noise)
        noise += (cv2.resize(luma, (width, height)) * np.float32(self.noise))[..., None]
        return noise


def random_sensor(rng: np.random.Generator) -> Sensor:
    """A camera with moderate faults."""
    blue, red = rng.normal(1.0, 0.03, 2)
    return Sensor(
        exposure=rng.uniform(98, 138),
        white_balance=(blue, 1.0, red),
        contrast=rng.uniform(0.92, 1.2),
        saturation=rng.uniform(0.75, 1.25),
        vignette=rng.uniform(0.0, 0.3),
        defocus=rng.uniform(0.0, 0.0016),
        shake=rng.uniform(0.003, 0.006) if rng.random() < 0.15 else 0.0,
        noise=rng.uniform(0.8, 4.5),
        grain=rng.uniform(1.0, 1.6),
    )
