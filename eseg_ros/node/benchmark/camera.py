"""A camera that publishes a few images over and over at a steady rate, and notes when."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from eseg_ros.arguments import positive_float, positive_int
from eseg_ros.errors import EsegError
from eseg_ros.node.benchmark import DONE, MEASURING
from eseg_ros.node.benchmark.process import ros_process
from eseg_ros.node.messages import image_message, ns_to_stamp

DEPTH = 10
_POLL_S = 0.05
_WAIT_S = 60.0


class Camera:
    """Publishes images; `wait` first.

    Args:
        node: publishes; need not be spun.
        images: (N, H, W, 3) uint8 BGR, sent in turn.
        topic: of the images.
        reliable: offered reliability; drivers offer best effort, rclpy's default is reliable.
    """

    def __init__(self, node: Node, images: np.ndarray, topic: str, *, reliable: bool) -> None:
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self._node = node
        self._publisher = node.create_publisher(Image, topic, QoSProfile(depth=DEPTH, reliability=reliability))
        self._messages = [image_message(image, "bgr8", 0, "camera") for image in images]

    def wait(self, answers: str, stopped: Callable[[], bool]) -> None:
        """Until somebody takes the images, publishes `answers` and somebody takes these.

        Raises:
            EsegError: that takes longer than a minute.
        """
        deadline = time.monotonic() + _WAIT_S
        while not stopped() and not (
            self._publisher.get_subscription_count()
            and self._node.count_publishers(answers)
            and self._node.count_subscribers(answers)
        ):
            if time.monotonic() > deadline:
                raise EsegError(
                    f"after {_WAIT_S:g} s nobody takes {self._publisher.topic_name} and answers on {answers}"
                )
            time.sleep(_POLL_S)

    def publish(self, count: int, rate_hz: float, stopped: Callable[[], bool]) -> list[tuple[int, int]]:
        """(stamp, steady time right before it went out) of each image, nanoseconds."""
        published = []
        begin_s = time.monotonic()
        for index in range(count):
            time.sleep(max(0.0, begin_s + index / rate_hz - time.monotonic()))
            if stopped():
                break
            message = self._messages[index % len(self._messages)]
            stamp_ns = time.time_ns()
            message.header.stamp = ns_to_stamp(stamp_ns)
            published.append((stamp_ns, time.monotonic_ns()))
            self._publisher.publish(message)
        return published


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait, warm up, publish, and write {"warm_up": count, "published": [[stamp, time], ...]}."""
    parser = argparse.ArgumentParser(description="Publishes images for a benchmark.")
    parser.add_argument("images", type=Path, metavar="IMAGES.npy", help="(N, H, W, 3) uint8 BGR")
    parser.add_argument("--topic", required=True)
    parser.add_argument(
        "--answers", required=True, help="topic that must be published and taken before the first image"
    )
    parser.add_argument("--rate", type=positive_float, required=True, metavar="HZ")
    parser.add_argument("--count", type=positive_int, required=True)
    parser.add_argument("--warm-up", type=positive_int, required=True, help="images before those that count")
    parser.add_argument("--reliable", action="store_true")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE.json")
    options = parser.parse_args(arguments)
    try:
        with ros_process() as (context, stopped):
            node = Node("bench_camera", context=context, start_parameter_services=False)
            camera = Camera(node, np.load(options.images), options.topic, reliable=options.reliable)
            camera.wait(options.answers, stopped)
            warm_up = camera.publish(options.warm_up, options.rate, stopped)
            print(MEASURING, flush=True)
            published = camera.publish(options.count, options.rate, stopped)
            print(DONE, flush=True)
            options.record.write_text(json.dumps({"warm_up": len(warm_up), "published": published}), encoding="utf-8")
            node.destroy_node()
    except EsegError as error:
        print(f"bench_camera: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
