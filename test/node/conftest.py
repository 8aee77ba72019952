"""A ROS graph of each test's own."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

WAIT_S = 10.0
_DOMAIN_IDS = itertools.count(os.getpid() * 17)


class RosGraph:
    """One context with the nodes of a test, spun in the test's own thread."""

    def __init__(self, context: Context, domain_id: int) -> None:
        self.context = context
        self.domain_id = domain_id
        self.peer = Node("peer", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._nodes: list[Node] = []
        self._foreign: list[Node] = []
        self.add(self.peer)

    def add(self, node: Node) -> None:
        """Spin this node too, and destroy it after the test."""
        self._nodes.append(node)
        self._executor.add_node(node)

    def until(self, condition: Callable[[], object]) -> None:
        """Spin until the condition holds; fails the test where it does not in time."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, "what was awaited did not come in time"
            self._executor.spin_once(timeout_sec=0.02)

    def listen(self, message_type: Any, topic: str, qos: QoSProfile | int = 10) -> list[Any]:
        """The messages of a topic, as they arrive."""
        messages: list[Any] = []
        self.peer.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def publisher(self, message_type: Any, topic: str) -> Any:
        """A camera: reliable, so that no test loses a frame on the way."""
        return self.peer.create_publisher(
            message_type, topic, QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        )

    def foreign_publisher(self, message_type: Any, topic: str) -> Any:
        """A publisher with a participant of its own: one participant cannot hold two types of one topic."""
        context = Context()
        rclpy.init(args=[], context=context, domain_id=self.domain_id)
        node = Node("foreign", context=context)
        self._foreign.append(node)
        return node.create_publisher(message_type, topic, 1)

    @staticmethod
    def overrides(**values: Any) -> list[Parameter]:
        """Parameters as a YAML file gives them; `__` stands for the dot."""
        return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]

    @staticmethod
    def image(pixels: npt.NDArray[np.uint8], *, stamp: tuple[int, int] = (1_700_000_000, 123_456_789)) -> Image:
        """A bgr8 image message of the frame "front"."""
        message = Image(height=pixels.shape[0], width=pixels.shape[1], step=pixels.shape[1] * 3, encoding="bgr8")
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
        message.header.frame_id = "front"
        message.data.frombytes(pixels.tobytes())
        return message

    def close(self) -> None:
        self._executor.shutdown()
        for node in reversed(self._nodes):
            node.destroy_node()
        for node in self._foreign:
            node.destroy_node()
            rclpy.shutdown(context=node.context)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[RosGraph]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain_id = 1 + next(_DOMAIN_IDS) % 100
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain_id)
    graph = RosGraph(context, domain_id)
    yield graph
    graph.close()
    rclpy.shutdown(context=context)
