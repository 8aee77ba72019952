"""Ends a process on SIGINT and SIGTERM without rclpy's own handlers, which can leave a spinning executor hanging."""

from __future__ import annotations

import faulthandler
import signal
from types import FrameType
from typing import Any

STDERR = 2  # also where Python has no sys.stderr


class StopSignals:
    """Own handlers for SIGINT and SIGTERM, which only leave a note; a context manager.

    The note is a plain attribute: a handler may interrupt itself and must not wait for a lock.

    Args:
        grace_s: how long the process may take to end after the first signal. Then a thread outside Python, which a call
            that keeps Python's lock cannot hold up, writes the stack of every thread to stderr and ends the process
            with status 1. None lets it take its time.
    """

    def __init__(self, grace_s: float | None = None) -> None:
        self._grace_s = grace_s
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
        if self.received is None and self._grace_s is not None:
            faulthandler.dump_traceback_later(self._grace_s, exit=True, file=STDERR)
        self.received = number
