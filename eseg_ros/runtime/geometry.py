"""Where a camera image lies in the engine's input: one answer for preprocessing and postprocessing."""

from __future__ import annotations

from dataclasses import dataclass

from eseg_ros.engine.manifest import InputSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """The rectangle of the engine's input that a camera image fills, pixels."""

    left: int
    top: int
    width: int
    height: int


def place(image_size: tuple[int, int], spec: InputSpec) -> Placement:
    """Place an image of `image_size` (width, height) by the manifest's resize rule.

    "stretch" fills the input; "letterbox" keeps the aspect ratio and centres the image.
    """
    if spec.resize == "stretch":
        return Placement(0, 0, spec.width, spec.height)
    width, height = image_size
    scale = min(spec.width / width, spec.height / height)
    placed_width = max(1, round(width * scale))
    placed_height = max(1, round(height * scale))
    return Placement((spec.width - placed_width) // 2, (spec.height - placed_height) // 2, placed_width, placed_height)


def scaled_size(image_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(width, height) of the outputs for an image of `image_size` (width, height); at least one pixel each way."""
    width, height = image_size
    return max(1, round(width * scale)), max(1, round(height * scale))
