"""A ROS graph of each test's own, and a node in it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from eseg_ros.node.segmentation_node import SegmentationNode

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0
_DOMAIN_IDS = itertools.count(os.getpid() * 17)


Start = Callable[..., "subprocess.Popen[str]"]


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

    def foreign_node(self) -> Node:
        """A node with a participant of its own, which this graph does not spin."""
        context = Context()
        rclpy.init(args=[], context=context, domain_id=self.domain_id)
        node = Node("foreign", context=context)
        self._foreign.append(node)
        return node

    def foreign_publisher(self, message_type: Any, topic: str) -> Any:
        """A publisher of another participant: one participant cannot hold two types of one topic."""
        return self.foreign_node().create_publisher(message_type, topic, 1)

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


class Rig:
    """A node on the tiny engine with the camera "front" on /image, and what its diagnostics say."""

    def __init__(self, ros: RosGraph, engine: Path) -> None:
        self.ros = ros
        self._defaults: dict[str, Any] = {
            "engine": str(engine),
            "threads": 1,
            "camera_names": ["front"],
            "cameras__front__image_topic": "image",
            "diagnostics_period_s": 0.1,
            "lazy": False,
        }
        self._reports: list[DiagnosticArray] = ros.listen(DiagnosticArray, "/diagnostics")

    def start(self, stopped: Callable[[], bool] = lambda: False, **values: Any) -> SegmentationNode:
        node = SegmentationNode(
            stopped=stopped,
            context=self.ros.context,
            parameter_overrides=self.ros.overrides(**(self._defaults | values)),
        )
        self.ros.add(node)
        node.autostart()
        return node

    def camera(self, message_type: Any = Image, topic: str = "/image") -> Any:
        """A publisher that the node has found."""
        publisher = self.ros.publisher(message_type, topic)
        self.ros.until(publisher.get_subscription_count)
        return publisher

    def exchange(self, camera: Any, message: Any, answers: list[Any]) -> Any:
        """Publish again and again until an answer comes, which is the return value."""

        def answered() -> bool:
            camera.publish(message)
            return bool(answers)

        self.ros.until(answered)
        return answers[0]

    def status(self, part: str) -> DiagnosticStatus | None:
        """The last status of "engine" or "camera NAME"."""
        statuses = [status for report in self._reports[-1:] for status in report.status]
        return next((status for status in statuses if status.name == f"segmentation: {part}"), None)

    def value(self, part: str, key: str) -> str | None:
        """A value of the last status."""
        status = self.status(part)
        return next((pair.value for pair in status.values if pair.key == key), None) if status else None

    def forget_reports(self) -> None:
        """What is asked for from now on is what is still to come."""
        self._reports.clear()

    def until_engine_says(self, text: str) -> DiagnosticStatus:
        self.ros.until(lambda: (status := self.status("engine")) and text in status.message)
        status = self.status("engine")
        assert status is not None
        return status


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


@pytest.fixture
def rig(ros: RosGraph, tiny_engine: Path) -> Rig:
    return Rig(ros, tiny_engine)


@pytest.fixture
def start(ros: RosGraph, tiny_engine: Path) -> Iterator[Start]:
    """Starts the node in a process of its own, with the shipped shared-memory profile."""
    processes: list[subprocess.Popen[str]] = []

    def start(**parameters: str) -> subprocess.Popen[str]:
        values = {"engine": str(tiny_engine), "cameras.camera.image_topic": "image", "diagnostics_period_s": "0.1"}
        arguments = [word for item in (values | parameters).items() for word in ("-p", "{}:={}".format(*item))]
        process = subprocess.Popen(
            [sys.executable, "-m", "eseg_ros.node.main", "--ros-args", *arguments],
            cwd=ROOT,
            env=os.environ
            | {
                "ROS_DOMAIN_ID": str(ros.domain_id),
                "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
