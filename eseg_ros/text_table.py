"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned_columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """A line a row, columns two spaces apart; cells stand to the left, or to the right for numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    side = ">" if right else "<"
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
