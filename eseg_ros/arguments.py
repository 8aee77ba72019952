"""Types of command-line arguments that several jobs share, for argparse."""

from __future__ import annotations

import argparse

LEAST_ENGINE_SIZE = 64  # pixels, what the manifest allows


def positive_float(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def positive_int(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def image_size(text: str, least: int = 1) -> tuple[int, int]:
    """ "480x360" as (480, 360).

    Raises:
        argparse.ArgumentTypeError: not two numbers of at least `least`.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= least):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; expected WIDTHxHEIGHT in pixels, at least {least}x{least}, e.g. 480x360"
        )
    return int(width), int(height)


def engine_size(text: str) -> tuple[int, int]:
    """An `image_size` that an engine's input can have."""
    return image_size(text, LEAST_ENGINE_SIZE)
