"""From logits at the head's stride to masks and pictures at the camera's resolution.

The mask is the argmax of the bilinearly upsampled logits (half-pixel centres, PyTorch's align_corners=False).
Upsampling all classes at once would move C full-resolution planes through memory; here one class at a time is upsampled
and compared with the best so far, and classes that cannot win anywhere are left out.

Why leaving them out is exact: between the centres of four neighbouring logits an upsampled value is a convex
combination of the four. So class c stays at or below the largest of its four, and class d at or above the smallest of
its own four. Where c's largest is below some d's smallest, c loses in the whole cell.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.runtime.geometry import Placement, place
from eseg_ros.runtime.types import Image8, Outputs

FloatArray = npt.NDArray[np.float32]

UNDECIDED_ID = 255
"""Mask value of pixels below the confidence threshold."""


class Postprocessor:
    """Masks and pictures for one engine. Not for several threads at once: it keeps its buffers."""

    def __init__(self, manifest: EngineManifest) -> None:
        self._input = manifest.input
        self._colors = np.ascontiguousarray(manifest.classes.color_table()[:, ::-1])[:, None]  # (256, 1, 3) BGR
        self._upsampler: _Upsampler | None = None

    def __call__(
        self, logits: FloatArray, image: Image8, outputs: Outputs
    ) -> tuple[Image8, Image8 | None, Image8 | None, Image8 | None]:
        """Mask and, where asked for, color mask, overlay and confidence of one frame.

        Args:
            logits: (C, h, w) float32 at the head's stride. A NaN never wins; where all are NaN the class is 0.
            image: (H, W, 3) uint8 BGR, the camera image.
            outputs: what is wanted.

        Returns:
            mask (H, W) uint8, color mask (H, W, 3) BGR, overlay (H, W, 3) BGR, confidence (H, W) uint8. Where several
            classes are equally likely the lowest id wins, as in argmax.
        """
        upsampler = self._upsampler_for(logits.shape[1:], (image.shape[0], image.shape[1]))
        mask, best = _argmax(logits, upsampler)
        confidence = None
        if outputs.confidence or outputs.confidence_threshold > 0:
            probability = _winner_probability(logits, best, upsampler)
            mask[probability < outputs.confidence_threshold] = UNDECIDED_ID
            confidence = cv2.convertScaleAbs(probability, alpha=255) if outputs.confidence else None
        color_mask = overlay = None
        if outputs.color_mask or outputs.overlay:
            color_mask = cv2.applyColorMap(mask, self._colors)
        if outputs.overlay:
            alpha = outputs.overlay_alpha
            overlay = cv2.addWeighted(image, 1 - alpha, color_mask, alpha, 0)
        return mask, color_mask if outputs.color_mask else None, overlay, confidence

    def _upsampler_for(self, logits_size: tuple[int, ...], image_size: tuple[int, int]) -> _Upsampler:
        if self._upsampler is None or self._upsampler.sizes != (logits_size, image_size):
            placement = place(image_size[::-1], self._input)
            input_size = (self._input.height, self._input.width)
            self._upsampler = _Upsampler(logits_size, image_size, placement, input_size)
        return self._upsampler


class _Upsampler:
    """Bilinear upsampling of one plane of logits to the camera image, with buffers for the comparison."""

    def __init__(
        self,
        logits_size: tuple[int, ...],
        image_size: tuple[int, int],
        placement: Placement,
        input_size: tuple[int, int],
    ) -> None:
        self.sizes = (logits_size, image_size)
        self.plane = np.empty(image_size, np.float32)
        self.wins = np.empty(image_size, np.uint8)
        self._matrices: tuple[FloatArray, FloatArray] | None = None
        if (placement.height, placement.width) != input_size:  # the image covers a part of the logits' plane
            self._matrices = (
                _interpolation(logits_size[0], image_size[0], placement.top, placement.height, input_size[0]),
                _interpolation(logits_size[1], image_size[1], placement.left, placement.width, input_size[1]).T.copy(),
            )

    def __call__(self, logits: FloatArray) -> FloatArray:
        """(h, w) -> (H, W), valid until the next call."""
        if self._matrices is None:
            height, width = self.plane.shape
            cv2.resize(logits, (width, height), dst=self.plane, interpolation=cv2.INTER_LINEAR)
        else:
            vertical, horizontal = self._matrices
            np.matmul(vertical @ logits, horizontal, out=self.plane)
        return self.plane


def _interpolation(cells: int, pixels: int, start: int, length: int, total: int) -> FloatArray:
    """(pixels, cells) matrix of bilinear weights along one axis.

    The `pixels` of the image fill `length` of the engine input's `total` pixels from `start` on; the logits' `cells`
    fill all of it. Centres lie at half coordinates; beyond the outer ones the outer value holds.
    """
    in_input = (np.arange(pixels) + 0.5) * length / pixels + start
    position = np.clip(in_input * cells / total - 0.5, 0, cells - 1)
    low = position.astype(np.intp)
    weight = position - low
    matrix = np.zeros((pixels, cells), np.float32)
    matrix[np.arange(pixels), low] = 1 - weight
    matrix[np.arange(pixels), np.minimum(low + 1, cells - 1)] += weight
    return matrix


def _argmax(logits: FloatArray, upsample: _Upsampler) -> tuple[Image8, FloatArray]:
    """(mask, winning logit), both (H, W)."""
    size = upsample.plane.shape
    mask = np.zeros(size, np.uint8)
    best = np.full(size, -np.inf, np.float32)
    for class_id in _possible_winners(logits):
        plane = upsample(logits[class_id])
        cv2.compare(plane, best, cv2.CMP_GT, dst=upsample.wins)  # strictly: ties go to the lower id, a NaN never wins
        cv2.copyTo(plane, upsample.wins, best)
        np.copyto(mask, np.uint8(class_id), where=upsample.wins.view(bool))
    return mask, best


def _possible_winners(logits: FloatArray) -> list[int]:
    """Classes that can win in some cell between four neighbouring logits, ascending."""
    down = np.minimum(np.arange(logits.shape[1]) + 1, logits.shape[1] - 1)
    right = np.minimum(np.arange(logits.shape[2]) + 1, logits.shape[2] - 1)
    most, least = np.fmax(logits, logits[:, down]), np.fmin(logits, logits[:, down])  # a NaN gives way to a number
    most, least = np.fmax(most, most[:, :, right]), np.fmin(least, least[:, :, right])
    reachable = np.fmax.reduce(least, axis=0)  # (h, w): what the winner has at least
    return [int(i) for i in np.flatnonzero((most >= reachable).any(axis=(1, 2)))]


def _winner_probability(logits: FloatArray, best: FloatArray, upsample: _Upsampler) -> FloatArray:
    """Softmax probability of the winning class at each pixel, 1 / sum_c exp(logit_c - best). (H, W) float32."""
    total = np.zeros_like(best)
    for class_logits in logits:
        difference = cv2.subtract(upsample(class_logits), best)
        total += cv2.exp(difference)
    probability: FloatArray = np.nan_to_num(1 / total, copy=False, nan=0.0)
    return probability
