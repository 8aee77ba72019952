"""Replays a bag to a running segmentation node and records the masks that come back.

Player and recorder share a process, so that one steady clock tells when an image was published and when its mask
arrived. Run it as `python -m eseg_ros.node.recorder`; `eseg demo` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from tqdm import tqdm

from eseg_ros.arguments import positive_float, positive_int
from eseg_ros.bag.reader import BagReader, stamp_of
from eseg_ros.bag.writer import IMAGE, BagWriter
from eseg_ros.errors import EsegError
from eseg_ros.node.bag_player import BagPlayer
from eseg_ros.node.signals import StopSignals

ERROR_LEVEL = int.from_bytes(DiagnosticStatus.ERROR, "little")

# Deep enough that a mask waits rather than gets lost while this process is busy publishing.
_MASK_DEPTH = 100
# Longer than an image takes from here into the node.
_SETTLE_S = 0.5
# Longer than any inference; after it, a mask that did not come will not come.
_DRAIN_TIMEOUT_S = 30.0
_POLL_S = 0.05


@dataclass(slots=True)
class Replay:
    """What went in and what came out; times are nanoseconds of one steady clock.

    Attributes:
        published: (stamp, time) of each image, right before it was published.
        received: (stamp, time) of each mask, as it arrived.
        diagnostics: status name -> {"level", "message", "values"}, as last heard.
    """

    published: list[tuple[int, int]] = field(default_factory=list)
    received: list[tuple[int, int]] = field(default_factory=list)
    diagnostics: dict[str, dict[str, Any]] = field(default_factory=dict)


class Recorder:
    """Writes the masks of one topic into a bag and notes diagnostics, in a thread of its own; a context manager.

    Args:
        context: initialized.
        mask_topic: fully resolved.
        bag: takes the masks as they come; their log time is their stamp, so that it plays beside the images' bag.
        replay: `received` and `diagnostics` are filled in.

    Attributes:
        reported_s: steady time of the last diagnostics; 0 before the first.
    """

    def __init__(self, context: Context, mask_topic: str, bag: BagWriter, replay: Replay) -> None:
        self._mask_topic = mask_topic
        self._bag = bag
        self._replay = replay
        self.reported_s = 0.0
        self.node = Node("mask_recorder", context=context, start_parameter_services=False)
        qos = QoSProfile(depth=_MASK_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self.node.create_subscription(Image, mask_topic, self._on_mask, qos, raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._stopped = False
        self._thread = Thread(target=self._spin, name="recorder")

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = True
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()

    def has_publisher(self) -> bool:
        """Whether somebody publishes the masks."""
        return bool(self.node.count_publishers(self._mask_topic))

    def engine_failure(self) -> str | None:
        """Why the node's engine does not run, if its diagnostics say so."""
        for name, status in self._replay.diagnostics.items():
            if name.endswith(": engine") and status["level"] >= ERROR_LEVEL:
                return str(status["message"])
        return None

    def masks_owed(self) -> int:
        """How many images the node still works on and how many of its masks have not arrived, by its last report."""
        counters = [status["values"] for status in self._replay.diagnostics.values() if "in_flight" in status["values"]]
        under_way = sum(int(values["waiting"]) + int(values["in_flight"]) for values in counters)
        return under_way + max(0, sum(int(values["published"]) for values in counters) - len(self._replay.received))

    def _spin(self) -> None:
        while not self._stopped:
            self._executor.spin_once(timeout_sec=_POLL_S)

    def _on_mask(self, data: bytes) -> None:
        received_ns = time.monotonic_ns()
        stamp_ns = stamp_of(data)
        self._bag.write_serialized(self._mask_topic, IMAGE, stamp_ns, data)
        self._replay.received.append((stamp_ns, received_ns))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        # A whole new dictionary: the main thread may be reading the old one.
        self._replay.diagnostics = self._replay.diagnostics | {
            status.name: {
                "level": int.from_bytes(status.level, "little"),
                "message": status.message,
                "values": {item.key: item.value for item in status.values},
            }
            for status in message.status
        }
        self.reported_s = time.monotonic()


def replay_and_record(
    bag: BagReader,
    topic: str,
    mask_topic: str,
    masks: BagWriter,
    *,
    rate: float = 1.0,
    frames: int | None = None,
    timeout_s: float = 60.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Replay:
    """Replay a topic to the node that publishes `mask_topic`; ends when every image is answered or none comes any more.

    Args:
        bag: open.
        topic: image topic of the bag.
        mask_topic: where the node answers.
        masks: open; takes the masks.
        rate: times the recorded speed.
        frames: at most so many images.
        timeout_s: how long the node may take to become active.
        stopped: asked every few milliseconds; once it is true, the replay ends.

    Raises:
        EsegError: the topic does not exist, the bag is damaged, or the node did not become active in time.
    """
    total = min(bag.image_topic(topic).count, frames or sys.maxsize)
    replay = Replay()
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        with Recorder(context, mask_topic, masks, replay) as recorder:
            player = BagPlayer(recorder.node, bag, [topic], rate, stopped)
            _wait_until_active(recorder, player, timeout_s, stopped)
            with tqdm(total=total, desc="replaying over DDS", unit="frame") as progress:
                for played in player.play():
                    replay.published.append((stamp_of(played.message.data), played.published_ns))
                    progress.update()
                    if len(replay.published) == total:
                        break
            _drain(replay, recorder, player, stopped)
    finally:
        rclpy.shutdown(context=context)
    return replay


def _wait_until_active(recorder: Recorder, player: BagPlayer, timeout_s: float, stopped: Callable[[], bool]) -> None:
    """Wait until the node publishes masks and, which it does once it is active, subscribes to the images."""
    deadline = time.monotonic() + timeout_s
    while not stopped() and (not recorder.has_publisher() or not player.is_heard()):
        if (failure := recorder.engine_failure()) is not None:
            raise EsegError(f"the segmentation node cannot start: {failure}")
        if time.monotonic() > deadline:
            raise EsegError(
                f"the segmentation node was not active after {timeout_s:g} s: nobody "
                + (f"subscribes to {', '.join(player.publishers)}" if recorder.has_publisher() else "publishes masks")
                + "; is it running, with the same ROS_DOMAIN_ID?"
            )
        player.tick()
        time.sleep(_POLL_S)


def _drain(replay: Replay, recorder: Recorder, player: BagPlayer, stopped: Callable[[], bool]) -> None:
    """Wait for a report, made well after the last image went out, by which the node owes no mask any more."""
    begin_s = time.monotonic()
    while not stopped() and time.monotonic() < begin_s + _DRAIN_TIMEOUT_S:
        if recorder.reported_s > begin_s + _SETTLE_S and recorder.masks_owed() == 0:
            return
        player.tick()
        time.sleep(_POLL_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay, record, and write the masks (a bag) and the record (a `Replay` as JSON)."""
    parser = argparse.ArgumentParser(description="Replays a bag to a segmentation node and records its masks.")
    parser.add_argument("bag", type=Path, metavar="BAG")
    parser.add_argument("--topic", required=True, help="image topic of the bag")
    parser.add_argument("--mask-topic", required=True, help="where the node publishes its masks")
    parser.add_argument("--masks", type=Path, required=True, metavar="BAG", help="the new bag for them")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE.json", help="what was sent and came, when")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="times the recorded speed (1.0)")
    parser.add_argument("--frames", type=positive_int, help="at most so many images")
    options = parser.parse_args(arguments)
    try:
        with (
            StopSignals() as stopped,
            BagReader(options.bag) as bag,
            BagWriter(options.masks, zstd=True) as masks,
        ):
            replay = replay_and_record(
                bag,
                options.topic,
                options.mask_topic,
                masks,
                rate=options.rate,
                frames=options.frames,
                stopped=stopped,
            )
        options.record.write_text(json.dumps(asdict(replay)), encoding="utf-8")
    except EsegError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    return 130 if stopped() else 0


if __name__ == "__main__":
    sys.exit(main())
