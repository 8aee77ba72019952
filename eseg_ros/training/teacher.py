"""A trained network that labels frames for others: for pseudo labels and for distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from eseg_ros.data.reading import Image
from eseg_ros.engine.export import rebuild_network
from eseg_ros.engine.manifest import load_engine
from eseg_ros.labels import ClassSet
from eseg_ros.training.checkpoint import load_for_export
from eseg_ros.training.losses import upsampled

MULTIPLE = 32
"""Sides of the frames that a teacher sees are multiples of this, so that no level is cut off."""


@dataclass(frozen=True)
class Teacher:
    """A network, frozen, with all that is needed to ask it.

    Attributes:
        network: (B, 3, H, W) normalized RGB -> (B, classes, h, w) scores.
        classes: what its scores mean.
        size: (height, width) of the frames it was trained for.
        mean: RGB mean of the normalization, 0..255.
        std: RGB standard deviation of the normalization, 0..255.
    """

    network: nn.Module
    classes: ClassSet
    size: tuple[int, int]
    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def scores(self, image: Tensor) -> Tensor:
        """Scores (B, classes, h, w) of frames (B, 3, H, W) float32 RGB, 0..255, as they are."""
        batch = (image - self.mean.to(image.device)) / self.std.to(image.device)
        scores: Tensor = self.network.to(image.device)(batch.contiguous(memory_format=torch.channels_last))
        return scores

    @torch.no_grad()
    def probabilities(self, image: Image, scales: tuple[float, ...], *, flip: bool) -> npt.NDArray[np.float32]:
        """Mean class probabilities over scales, each also mirrored if `flip`. (H, W, 3) RGB -> (classes, H, W).

        At scale 1 a frame is seen at the size that the teacher was trained for.
        """
        height, width = image.shape[:2]
        total = torch.zeros(len(self.classes), height, width)
        for scale in scales:
            rows, columns = (max(2 * MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in self.size)
            smoothing = cv2.INTER_AREA if columns < width else cv2.INTER_LINEAR
            resized = cv2.resize(image, (columns, rows), interpolation=smoothing)
            batch = torch.from_numpy(resized).permute(2, 0, 1)[None].float()  # (1, 3, rows, columns)
            for mirrored in (False, True) if flip else (False,):
                scores = self.scores(batch.flip(3) if mirrored else batch)
                scores = scores.flip(3) if mirrored else scores
                total += upsampled(scores, (height, width))[0].softmax(dim=0)
        mean: npt.NDArray[np.float32] = (total / (len(scales) * (2 if flip else 1))).numpy()
        return mean


def load_teacher(path: Path) -> Teacher:
    """The teacher in a checkpoint (.ckpt) or in an fp32 or fp16 engine (.json or .onnx) of this package.

    Raises:
        CheckpointError, EngineError: the file cannot be read or rebuilt.
    """
    if path.suffix == ".ckpt":
        network, record = load_for_export(path)
        size = record.config["data"].get("size") or record.config["augment"]["crop"]
        classes, mean, std, form = record.classes, record.mean, record.std, network.deploy()
    else:
        engine = load_engine(path)
        spec = engine.manifest.input
        form, classes, mean, std = (
            rebuild_network(engine.manifest, engine.onnx),
            engine.manifest.classes,
            spec.mean,
            spec.std,
        )
        size = (spec.height, spec.width)
    form = form.eval().requires_grad_(False)
    convert_conv2d_weight_memory_format(form, torch.channels_last)
    return Teacher(
        form, classes, (int(size[0]), int(size[1])), *(255 * torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    )
