from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from rcl_interfaces.msg import Log

from eseg_ros.node.logs import log_to_ros

if TYPE_CHECKING:
    from conftest import RosGraph


@pytest.fixture
def package() -> Iterator[logging.Logger]:
    """The package's logger, as it was afterwards."""
    logger = logging.getLogger("eseg_ros")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield logger
    logger.setLevel(before[0])
    logger.propagate, logger.handlers = before[1:]


def test_what_the_core_logs_comes_to_rosout_with_its_severity(ros: RosGraph, package: logging.Logger) -> None:
    lines = ros.listen(Log, "/rosout")
    ros.until(lambda: ros.peer.count_publishers("/rosout"))
    log_to_ros(ros.peer.get_logger())

    def heard(level: int) -> bool:  # ROS numbers the severities as Python does
        logging.getLogger("eseg_ros.runtime.select").log(level, "%s of 2", level)
        return any((line.level, line.msg) == (level, f"{level} of 2") for line in lines)

    ros.until(lambda: heard(logging.ERROR))
    ros.until(lambda: heard(logging.WARNING))
    ros.until(lambda: heard(logging.INFO))
