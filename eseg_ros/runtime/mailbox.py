"""A camera's mailbox: room for one frame, and the newest wins."""

from __future__ import annotations

from dataclasses import dataclass

from eseg_ros.runtime.types import Frame


@dataclass(frozen=True, slots=True)
class Letter:
    """A frame and when it arrived, nanoseconds on a steady clock."""

    frame: Frame
    arrival_ns: int


class Mailbox:
    """Holds the newest frame until it is taken. Not locked: the worker's lock guards it."""

    def __init__(self) -> None:
        self._letter: Letter | None = None

    def __bool__(self) -> bool:
        return self._letter is not None

    def put(self, letter: Letter) -> Letter | None:
        """Lay in a frame; returns the one that it displaces, if it was not taken in time."""
        displaced, self._letter = self._letter, letter
        return displaced

    def take(self) -> Letter | None:
        """The frame, and the mailbox is empty; None where there was none."""
        letter, self._letter = self._letter, None
        return letter
