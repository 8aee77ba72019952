from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from eseg_ros.bag.reader import BagReader
from eseg_ros.bag.writer import BagWriter
from eseg_ros.errors import BagError
from eseg_ros.node.bag_player import BagPlayer

TOPIC = "/camera/image_raw"
FIRST_NS = 1_700_000_000_000_000_000
PERIOD_NS = 20_000_000
COUNT = 5
WAIT_S = 10.0
DOMAIN_ID = 1 + os.getpid() % 100  # of this run's own, should another one go on beside it


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Five images, 20 ms apart, each filled with its own number."""
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(COUNT):
            image = np.full((48, 64, 3), index, np.uint8)
            writer.write_image(TOPIC, image, FIRST_NS + index * PERIOD_NS, "front")
    return tmp_path / "bag"


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN_ID)
    yield context
    rclpy.shutdown(context=context)


def stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


class Listener:
    """What arrives on one topic."""

    def __init__(self, context: Context, message_type: Any, topic: str, qos: Any = qos_profile_sensor_data) -> None:
        self.messages: list[Any] = []
        self.node = Node("listener", context=context)
        self._subscription = self.node.create_subscription(message_type, topic, self.messages.append, qos)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + WAIT_S
        while not condition() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)
        return condition()


@pytest.fixture
def images(context: Context) -> Listener:
    return Listener(context, Image, TOPIC, 10)


def test_the_recorded_stamps_and_bytes_arrive(context: Context, bag: Path, images: Listener) -> None:
    with BagReader(bag) as reader:
        player = BagPlayer(Node("player", context=context), reader, None, rate=1.0)
        player.wait_for_subscribers(1, WAIT_S)
        played = list(player.play())
        player.flush()

    assert images.spin_until(lambda: len(images.messages) == COUNT)
    assert [stamp_ns(image.header.stamp) for image in images.messages] == [
        FIRST_NS + index * PERIOD_NS for index in range(COUNT)
    ]
    assert [set(image.data) for image in images.messages] == [{index} for index in range(COUNT)]
    assert [p.message.log_time_ns for p in played] == [FIRST_NS + index * PERIOD_NS for index in range(COUNT)]


def test_the_clock_runs_up_to_each_message_before_the_message_comes(context: Context, bag: Path) -> None:
    clock = Listener(context, Clock, "/clock", 1000)

    def latest_ns() -> int:
        return stamp_ns(clock.messages[-1].clock)

    with BagReader(bag) as reader:
        player = BagPlayer(Node("player", context=context), reader, None, rate=1.0)
        assert clock.spin_until(lambda: bool(player.tick() or clock.messages))
        assert latest_ns() == FIRST_NS
        for played in player.play():
            assert clock.spin_until(lambda due=played.message.log_time_ns: latest_ns() >= due)

    times = [stamp_ns(message.clock) for message in clock.messages]
    assert times == sorted(times)


def test_messages_are_never_early_and_the_rate_divides_the_time(context: Context, bag: Path) -> None:
    with BagReader(bag) as reader:
        player = BagPlayer(Node("player", context=context), reader, None, rate=0.5)
        begin_ns = time.monotonic_ns()
        published = [played.published_ns - begin_ns for played in player.play()]

    assert all(at >= 2 * index * PERIOD_NS for index, at in enumerate(published))


def test_nobody_listening_is_an_error_that_names_the_topic(context: Context, bag: Path) -> None:
    with BagReader(bag) as reader:
        player = BagPlayer(Node("player", context=context), reader, None, rate=1.0)
        with pytest.raises(BagError, match=f"{TOPIC} has fewer than 1 subscribers"):
            player.wait_for_subscribers(1, timeout_s=0.1)


def test_a_topic_that_the_bag_lacks_is_refused(context: Context, bag: Path) -> None:
    with BagReader(bag) as reader, pytest.raises(BagError, match=f"no topic /nothing; it has {TOPIC}"):
        BagPlayer(Node("player", context=context), reader, ["/nothing"], rate=1.0)


def test_playing_ends_when_asked_to_stop(context: Context, bag: Path) -> None:
    played = []
    with BagReader(bag) as reader:
        player = BagPlayer(Node("player", context=context), reader, None, 1.0, stopped=lambda: len(played) == 2)
        for message in player.play():
            played.append(message)

    assert len(played) == 2


def test_the_executable_loops_until_sigterm_and_ends_with_code_0(context: Context, bag: Path, images: Listener) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "eseg_ros.node.bag_player", str(bag), "--loop", "--wait-for-subscribers", "1"],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN_ID)},
    )
    try:
        assert images.spin_until(lambda: len(images.messages) > COUNT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_S) == 0
    finally:
        process.kill()
