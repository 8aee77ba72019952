"""Ends a process on SIGINT and SIGTERM without rclpy's own handlers, which can leave a spinning executor hanging."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopSignals:
    """Own handlers for SIGINT and SIGTERM, which only leave a note; a context manager.

    The note is a plain attribute: a handler may interrupt itself and must not wait for a lock.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
