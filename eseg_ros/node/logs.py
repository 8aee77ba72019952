"""What the core logs, as ROS log lines."""

from __future__ import annotations

import logging
from typing import Any


class RosLogHandler(logging.Handler):
    """Hands the records of Python's logging on to a node's logger, and so to /rosout and the node's log file."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with the severity that it has; a line each, because rclpy ties a severity to the line."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def log_to_ros(logger: Any) -> None:
    """Have everything that this package logs from now on, INFO and above, go to a node's logger."""
    package = logging.getLogger("eseg_ros")
    package.setLevel(logging.INFO)
    package.propagate = False
    package.addHandler(RosLogHandler(logger))
