"""Where an image lies in the engine's input."""

from __future__ import annotations

import pytest

from eseg_ros.engine.manifest import InputSpec
from eseg_ros.runtime.geometry import Placement, place

STRETCH = InputSpec("image", 96, 64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
LETTERBOX = InputSpec("image", 96, 64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="letterbox")


def test_stretch_fills_the_input() -> None:
    assert place((33, 7), STRETCH) == Placement(0, 0, 96, 64)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((96, 64), Placement(0, 0, 96, 64)),
        ((192, 64), Placement(0, 16, 96, 32)),
        ((64, 64), Placement(16, 0, 64, 64)),
        ((10_000, 1), Placement(0, 31, 96, 1)),
    ],
    ids=["same size", "wide", "square", "one row"],
)
def test_letterbox_keeps_the_aspect_ratio_and_centres(size: tuple[int, int], expected: Placement) -> None:
    assert place(size, LETTERBOX) == expected
