"""Replays a bag over ROS 2: the recorded bytes, at the recorded pace, with /clock.

The messages are published as they were serialized, so that stamps and everything else stay exactly as recorded.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from eseg_ros.bag.command import add_play_arguments
from eseg_ros.bag.reader import IMAGE_TYPES, BagReader, RecordedMessage, Topic
from eseg_ros.errors import BagError, EsegError
from eseg_ros.node.signals import StopSignals

CLOCK_TOPIC = "/clock"
CLOCK_PERIOD_S = 0.02
SETTLE_S = 0.2
"""After the first subscriber of an image topic: a node with several cameras subscribes to all of them within this."""
_QUEUE_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Played:
    """A message that was just published; `published_ns` is the steady clock right before it was."""

    message: RecordedMessage
    published_ns: int


class BagPlayer:
    """Publishers for a bag's topics, and the pace.

    Every publisher is reliable, so that reliable and best-effort subscribers both match, and keeps its last message for
    late subscribers if the recorded one did.

    Args:
        node: publishes; need not be spun.
        bag: open for as long as the player is used.
        topics: what to play; None for every topic whose message type is installed here.
        rate: times the recorded speed.
        stopped: asked every few milliseconds; once it is true, playing ends.

    Attributes:
        skipped: topics left out because their message type is not installed.
        awaited: names of the image topics, or of all topics if none holds images: what is worth subscribers.

    Raises:
        BagError: a topic in `topics` is not in the bag, or its type is not installed.
    """

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        topics: Sequence[str] | None,
        rate: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bag = bag
        self._rate = rate
        self._stopped = stopped
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 1)
        self._started_s: float | None = None
        self.skipped: list[Topic] = []
        self.publishers: dict[str, Any] = {}
        for topic in [bag.topic(name) for name in topics] if topics else list(bag.topics.values()):
            message_type = _message_type(topic.type)
            if message_type is not None and topic.name != CLOCK_TOPIC:
                self.publishers[topic.name] = node.create_publisher(message_type, topic.name, _qos(topic))
            elif topics:
                raise BagError(
                    f"{topic.name} cannot be played: {topic.type} is not installed here; "
                    f"install its package: ros-$ROS_DISTRO-{topic.type.split('/')[0].replace('_', '-')}"
                    if message_type is None
                    else f"{CLOCK_TOPIC} cannot be played from the bag: the player publishes its own"
                )
            else:
                self.skipped.append(topic)
        images = [name for name in self.publishers if bag.topics[name].type in IMAGE_TYPES]
        self.awaited = images or list(self.publishers)

    def wait_for_subscribers(self, count: int, timeout_s: float) -> None:
        """Wait until one of the topics that are `awaited` has `count` subscribers; and a moment for the others.

        Raises:
            BagError: it took longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_heard(count) and not self._stopped():
            if time.monotonic() > deadline:
                raise BagError(
                    f"after {timeout_s:g} s {' or '.join(self.awaited)} has fewer than {count} subscribers; is the "
                    "node active, does it subscribe to a topic of this name, has it the same ROS_DOMAIN_ID, and does "
                    "somebody listen to its outputs or has it lazy set to false?"
                )
            self._tick_and_sleep()
        settled_s = time.monotonic() + SETTLE_S
        while time.monotonic() < settled_s and not self._stopped():
            self._tick_and_sleep()

    def is_heard(self, count: int = 1) -> bool:
        """Whether one of the topics that are `awaited` has `count` matched subscribers.

        One is enough: of the cameras in a bag a node may use some.
        """
        return any(self.publishers[name].get_subscription_count() >= count for name in self.awaited)

    def _tick_and_sleep(self) -> None:
        self.tick()
        time.sleep(CLOCK_PERIOD_S)

    def play(self) -> Iterator[Played]:
        """Play the bag once, yielding each message right after it was published.

        The pace is kept against the start, so that no delay adds up; while behind, messages follow without a pause.

        Raises:
            BagError: the bag is damaged.
        """
        self._started_s = time.monotonic()
        for message in self._bag.messages(self.publishers.keys()):
            due_s = self._started_s + (message.log_time_ns - self._bag.start_ns) / 1e9 / self._rate
            while not self._stopped() and due_s - time.monotonic() > CLOCK_PERIOD_S:
                self._tick_and_sleep()
            if self._stopped():
                return
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._publish_clock(message.log_time_ns)
            published_ns = time.monotonic_ns()
            self.publishers[message.topic.name].publish(message.data)
            yield Played(message, published_ns)

    def flush(self) -> None:
        """Wait until the reliable subscribers have every message; one that hangs is not waited for."""
        for publisher in self.publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=2))

    def tick(self) -> None:
        """Publish the time: the bag's first until it plays, and from then on it runs, past the bag's end too."""
        elapsed_s = 0.0 if self._started_s is None else time.monotonic() - self._started_s
        self._publish_clock(self._bag.start_ns + round(elapsed_s * 1e9 * self._rate))

    def _publish_clock(self, time_ns: int) -> None:
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(time_ns, 1_000_000_000)
        self._clock.publish(clock)


def play_bag(arguments: argparse.Namespace, ros_arguments: Sequence[str]) -> int:
    """Play as `add_play_arguments` says, with a progress bar; returns the exit status.

    Raises:
        BagError: the bag cannot be played or nobody listens.
    """
    with StopSignals() as stopped, BagReader(arguments.bag) as bag:
        context = Context()
        rclpy.init(args=list(ros_arguments), context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = Node("bag_player", context=context, start_parameter_services=False)
        try:
            player = BagPlayer(node, bag, arguments.topics, arguments.rate, stopped)
            for topic in player.skipped:
                print(f"bag_player: {topic.name} is not played: {topic.type} is not installed here", file=sys.stderr)
            if arguments.wait_for_subscribers:
                print(f"bag_player: waiting for subscribers of {' or '.join(player.awaited)}", file=sys.stderr)
                player.wait_for_subscribers(arguments.wait_for_subscribers, arguments.wait_timeout)
            total = sum(bag.topics[name].count for name in player.publishers)
            while not stopped():
                for _ in tqdm(player.play(), desc=f"playing {bag.path.name}", total=total, unit="message"):
                    pass
                if not arguments.loop or total == 0:
                    break
            player.flush()
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The executable `bag_player`: the arguments of `eseg bag play`, and ROS's after `--ros-args`."""
    parser = argparse.ArgumentParser(prog="bag_player", description="Replays a bag, with /clock.")
    add_play_arguments(parser)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(remove_ros_args(["bag_player", *given])[1:])
    try:
        return play_bag(options, given)
    except EsegError as error:
        print(f"bag_player: {error}", file=sys.stderr)
        return 1


def _message_type(name: str) -> Any | None:
    package, _, message = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message, None)
    except ImportError:
        return None


def _qos(topic: Topic) -> QoSProfile:
    return QoSProfile(
        depth=max(_QUEUE_DEPTH, topic.count) if topic.latched else _QUEUE_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
    )


if __name__ == "__main__":
    sys.exit(main())
