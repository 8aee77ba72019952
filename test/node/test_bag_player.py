from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from eseg_ros.bag.reader import BagReader
from eseg_ros.bag.writer import BagWriter
from eseg_ros.errors import BagError
from eseg_ros.node.bag_player import BagPlayer

if TYPE_CHECKING:
    from conftest import RosGraph

TOPIC = "/camera/image_raw"
PERIOD_NS = 20_000_000
STAMPS_NS = [1_700_000_000_000_000_000 + index * PERIOD_NS for index in range(5)]
WAIT_S = 10.0


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Five images, 20 ms apart, each filled with its own number."""
    with BagWriter(tmp_path / "bag") as writer:
        for index, stamp_ns in enumerate(STAMPS_NS):
            writer.write_image(TOPIC, np.full((48, 64, 3), index, np.uint8), stamp_ns, "front")
    return tmp_path / "bag"


@contextmanager
def player_of(ros: RosGraph, bag: Path, topics: list[str] | None = None, **options: Any) -> Iterator[BagPlayer]:
    with BagReader(bag) as reader:
        yield BagPlayer(ros.peer, reader, topics, **{"rate": 1.0, **options})


def nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def test_the_recorded_stamps_and_bytes_arrive(ros: RosGraph, bag: Path) -> None:
    images = ros.listen(Image, TOPIC)
    with player_of(ros, bag) as player:
        player.wait_for_subscribers(1, WAIT_S)
        played = list(player.play())

    ros.until(lambda: len(images) == len(STAMPS_NS))
    assert [nanoseconds(image.header.stamp) for image in images] == STAMPS_NS
    assert [set(image.data) for image in images] == [{index} for index in range(len(STAMPS_NS))]
    assert [entry.message.log_time_ns for entry in played] == STAMPS_NS


def test_the_clock_runs_up_to_each_message_before_the_message_comes(ros: RosGraph, bag: Path) -> None:
    clock = ros.listen(Clock, "/clock", 1000)
    with player_of(ros, bag) as player:
        ros.until(lambda: player.tick() or clock)
        assert nanoseconds(clock[-1].clock) == STAMPS_NS[0]
        for played in player.play():
            ros.until(lambda due_ns=played.message.log_time_ns: nanoseconds(clock[-1].clock) >= due_ns)

    times = [nanoseconds(message.clock) for message in clock]
    assert times == sorted(times)


def test_messages_are_never_early_and_the_rate_divides_the_time(ros: RosGraph, bag: Path) -> None:
    with player_of(ros, bag, rate=0.5) as player:
        begin_ns = time.monotonic_ns()
        published = [played.published_ns - begin_ns for played in player.play()]

    assert all(at_ns >= 2 * index * PERIOD_NS for index, at_ns in enumerate(published))


def test_nobody_listening_is_an_error_that_names_the_topic(ros: RosGraph, bag: Path) -> None:
    with player_of(ros, bag) as player, pytest.raises(BagError, match=f"{TOPIC} has fewer than 1 subscribers"):
        player.wait_for_subscribers(1, timeout_s=0.1)


def test_a_subscriber_of_one_camera_is_enough_for_a_bag_of_several(ros: RosGraph, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for topic in ("/left", "/right"):
            writer.write_image(topic, np.zeros((4, 4, 3), np.uint8), 1, "")
    images = ros.listen(Image, "/right")

    with player_of(ros, tmp_path / "bag") as player:
        player.wait_for_subscribers(1, WAIT_S)
        assert [played.message.topic.name for played in player.play()] == ["/left", "/right"]

    ros.until(lambda: images)


def test_a_topic_that_the_bag_lacks_is_refused(ros: RosGraph, bag: Path) -> None:
    with pytest.raises(BagError, match=f"no topic /nothing; it has {TOPIC}"), player_of(ros, bag, ["/nothing"]):
        pass


def test_only_the_topics_asked_for_are_played(ros: RosGraph, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for topic in ("/left", "/right"):
            writer.write_image(topic, np.zeros((4, 4, 3), np.uint8), 1, "")

    with player_of(ros, tmp_path / "bag", ["/right"]) as player:
        assert [played.message.topic.name for played in player.play()] == ["/right"]


def test_playing_ends_when_asked_to_stop(ros: RosGraph, bag: Path) -> None:
    played = []
    with player_of(ros, bag, stopped=lambda: len(played) == 2) as player:
        for entry in player.play():
            played.append(entry)

    assert len(played) == 2


def test_the_executable_loops_until_sigterm_and_ends_with_code_0(ros: RosGraph, bag: Path) -> None:
    images = ros.listen(Image, TOPIC)
    process = subprocess.Popen(
        [sys.executable, "-m", "eseg_ros.node.bag_player", str(bag), "--loop", "--wait-for-subscribers", "1"],
        env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain_id)},
    )
    try:
        ros.until(lambda: len(images) > len(STAMPS_NS))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_S) == 0
    finally:
        process.kill()
        process.wait()
