"""Augmentation of one training frame: one geometric warp, copy-paste, one color matrix, a little blur and noise.

Everything random comes from the generator that is passed in, so a frame's augmentation depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.training.config import AugmentConfig

Image = npt.NDArray[np.uint8]


class Pasted(NamedTuple):
    """Another frame, `image` (H, W, 3) uint8 RGB and `label` (H, W) uint8, of which the classes `ids` are pasted."""

    image: Image
    label: Image
    ids: Sequence[int]


_LUMA = np.array([0.299, 0.587, 0.114])
"""Rec. 601 weights of R, G and B in brightness."""


def augment(
    image: Image,
    label: Image,
    config: AugmentConfig,
    rng: np.random.Generator,
    pad_color: tuple[float, float, float],
    ignore_id: int,
    size: tuple[int, int] | None = None,
    pasted: Pasted | None = None,
) -> tuple[Image, Image]:
    """A randomly changed crop of a frame and, in exact alignment, of its label.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8 class ids.
        config: what may change and how much.
        rng: source of everything random.
        pad_color: RGB, 0..255, of pixels outside the frame.
        ignore_id: label of pixels outside the frame.
        size: (height, width) the frame has at scale 1; its own unless given.
        pasted: what another frame lays over this one, scaled and placed at random by itself (simple copy-paste, Ghiasi
            et al., CVPR 2021, without instances: a class is pasted as a whole).

    Returns:
        image (*config.crop, 3) uint8 RGB and label config.crop uint8.
    """
    image, label = _crop(image, label, config, rng, pad_color, ignore_id, size)
    if pasted is not None:
        other, other_label = _crop(pasted.image, pasted.label, config, rng, pad_color, ignore_id, size)
        seen = np.isin(other_label, pasted.ids)
        image[seen], label[seen] = other[seen], other_label[seen]
    image = cv2.transform(image, random_color_matrix(image, config, rng)).astype(np.uint8, copy=False)
    return _degrade(image, config, rng), label


def _crop(
    image: Image,
    label: Image,
    config: AugmentConfig,
    rng: np.random.Generator,
    pad_color: tuple[float, float, float],
    ignore_id: int,
    size: tuple[int, int] | None,
) -> tuple[Image, Image]:
    """A frame and its label in a random warp; see `augment`."""
    matrix = random_warp(image.shape[:2], config, rng, size)
    crop = config.crop[::-1]
    nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    linear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(image, matrix, crop, flags=linear, borderMode=cv2.BORDER_CONSTANT, borderValue=pad_color)
    label = cv2.warpAffine(label, matrix, crop, flags=nearest, borderMode=cv2.BORDER_CONSTANT, borderValue=ignore_id)
    return image, label


def random_warp(
    shape: tuple[int, int], config: AugmentConfig, rng: np.random.Generator, size: tuple[int, int] | None = None
) -> npt.NDArray[np.float64]:
    """The (2, 3) matrix from crop pixels to frame pixels: scale, mirror, turn and place of the crop.

    At scale 1 a frame of `shape` (height, width) has the given `size`, or its own. The scale is drawn log-uniformly, so
    that halving is as likely as doubling. Where the scaled frame is larger than the crop, the crop lies wholly inside;
    where it is smaller, the frame lies wholly inside the crop, anywhere. Then the frame turns about the crop's center.
    """
    low, high = np.log(config.scale)
    scale = float(np.exp(rng.uniform(low, high)))
    scales = scale * np.array(size or shape) / shape  # y, x
    slack = scales * shape - config.crop  # y, x; crop pixels
    top, left = slack * rng.uniform(size=2)
    if (scales == 1.0).all():  # whole pixels: no needless blur
        top, left = round(top), round(left)
    # Pixel centers lie at half coordinates: frame = (crop + offset + 0.5) / scale - 0.5.
    matrix = np.array(
        [
            [1 / scales[1], 0.0, (left + 0.5) / scales[1] - 0.5],
            [0.0, 1 / scales[0], (top + 0.5) / scales[0] - 0.5],
        ]
    )
    if rng.random() < config.flip:
        mirror = np.array([[-1.0, 0.0, config.crop[1] - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        matrix = matrix @ mirror
    if config.rotation:
        matrix = matrix @ _rotation(np.deg2rad(rng.uniform(-config.rotation, config.rotation)), config.crop)
    return matrix


def _rotation(angle: float, crop: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The (3, 3) rotation of crop pixels about the crop's center."""
    y, x = ((side - 1) / 2 for side in crop)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0.0, 0.0, 1.0]])


def random_color_matrix(image: Image, config: AugmentConfig, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Brightness, contrast, saturation and hue as one (3, 4) matrix on (R, G, B, 1); all four are linear."""
    brightness, contrast, saturation = (
        rng.uniform(1 - jitter, 1 + jitter) for jitter in (config.brightness, config.contrast, config.saturation)
    )
    angle = np.deg2rad(rng.uniform(-config.hue, config.hue))
    to_gray = np.tile(_LUMA, (3, 1))
    saturate = saturation * np.eye(3) + (1 - saturation) * to_gray
    color = brightness * contrast * saturate @ _rotation_about_gray(angle)
    mean = float(_LUMA @ cv2.mean(image)[:3])
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    return np.hstack([color, offset])


def _rotation_about_gray(angle: float) -> npt.NDArray[np.float64]:
    """Rotation of RGB space about its gray axis (1, 1, 1), by Rodrigues' formula."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)
    rotation: npt.NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def _degrade(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Blur and noise, each with its probability."""
    blurred, noisy = rng.random(2) < (config.blur, config.noise)
    if blurred:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if noisy:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 12))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    return image
