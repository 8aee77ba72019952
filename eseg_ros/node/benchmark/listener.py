"""Takes image topics off the wire and notes when the images of the first one arrive."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from eseg_ros.bag.reader import stamp_of
from eseg_ros.node.benchmark import HEARD
from eseg_ros.node.benchmark.process import ros_process, spin

DEPTH = 100


class Listener(Node):
    """Subscribes to image topics and to the diagnostics.

    Attributes:
        received: (stamp, steady time of its arrival) of each image of the first topic, nanoseconds.
        counts: images by topic.
        diagnostics: status name -> its values, as last heard.
    """

    def __init__(self, context: Context, topics: Sequence[str]) -> None:
        super().__init__("bench_listener", context=context, start_parameter_services=False)
        self.received: list[tuple[int, int]] = []
        self.counts = dict.fromkeys(topics, 0)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self._noted = topics[0]
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        for topic in topics:
            self.create_subscription(Image, topic, partial(self._on_image, topic), qos, raw=True)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_image(self, topic: str, data: bytes) -> None:
        self.counts[topic] += 1
        if topic == self._noted:
            if not self.received:
                print(HEARD, flush=True)
            self.received.append((stamp_of(data), time.monotonic_ns()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}


def main(arguments: Sequence[str] | None = None) -> int:
    """Listen until a signal comes, and write what was heard: the attributes of `Listener` as JSON."""
    parser = argparse.ArgumentParser(description="Takes images for a benchmark.")
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE.json")
    options = parser.parse_args(arguments)
    with ros_process() as (context, stopped):
        listener = Listener(context, options.topics)
        spin(listener, stopped)
    heard = {name: getattr(listener, name) for name in ("received", "counts", "diagnostics")}
    options.record.write_text(json.dumps(heard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
