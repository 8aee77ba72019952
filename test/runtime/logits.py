"""Logits as a network gives them, and what PyTorch makes of them: for the postprocessing on either kind of device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from eseg_ros.engine.manifest import EngineManifest, InputSpec, OutputSpec
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.types import Image8

Logits = npt.NDArray[np.floating]

STRIDE = 8

PALETTE = np.random.default_rng(11).integers(0, 256, (256, 3), np.uint8)
"""Blue, green, red by id."""

GRIDS_AND_SIZES = [
    ((8, 16), (64, 128)),
    ((45, 60), (360, 480)),
    ((45, 60), (361, 479)),
    ((8, 16), (67, 1001)),
    ((8, 16), (5, 7)),
    ((8, 16), (8, 16)),
    ((8, 16), (200, 3)),
    ((8, 16), (1, 1)),
    ((1, 16), (8, 128)),
    ((8, 1), (64, 8)),
    ((1, 1), (9, 9)),
    ((2, 2), (480, 640)),
]
"""((height, width) of the logits, (height, width) of the mask)."""


def blobs(classes: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Scores that vary over the image as a network's do: regions, with noise at their edges."""
    coarse = torch.randn(1, classes, 3, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0].numpy() * 6
    noise = np.random.default_rng(seed).normal(size=smooth.shape).astype(np.float32)
    return np.ascontiguousarray(smooth + noise)


def upsampled(logits: Logits, size: tuple[int, int]) -> torch.Tensor:
    """(C, H, W), by PyTorch."""
    planes = torch.from_numpy(logits.astype(np.float32))[None]
    return torch.nn.functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)[0]


def assert_same_but_for_ties(mask: Image8, planes: torch.Tensor) -> None:
    """Where the mask differs from the argmax, the class it gives is as good."""
    chosen = planes.gather(0, torch.from_numpy(mask.astype(np.int64))[None])[0]
    assert (planes.amax(0) - chosen).max() < 1e-4
    assert (torch.from_numpy(mask) != planes.argmax(0)).float().mean() < 1e-3


def manifest_of(logits: Logits, resize: str = "stretch") -> EngineManifest:
    """The manifest of an engine that gives such logits; its colors are PALETTE's."""
    classes, height, width = logits.shape
    names = tuple(f"class {index}" for index in range(classes))
    palette = tuple((int(red), int(green), int(blue)) for blue, green, red in PALETTE[:classes])
    size = max(64, STRIDE * width), max(64, STRIDE * height)
    return EngineManifest(
        name="engine",
        model="model",
        classes=ClassSet("set", names, palette),
        input=InputSpec("i", *size, (0, 0, 0), (1, 1, 1), resize=resize),
        output=OutputSpec("o", STRIDE, width, height),
        precision="fp32",
        onnx_file="engine.onnx",
        onnx_sha256="",
        opset=18,
    )
