"""Live mode: the real node in its own process, a bag replayed to it over DDS, its masks recorded and looked at.

Everything of ROS happens in the two processes started here; this module needs none of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from eseg_ros.bag.reader import BagReader, mono8_pixels
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.processes import (
    CAMERA,
    MASK_TOPIC,
    NODE_LOG,
    last_lines,
    node_parameters,
    ros_environment,
    running_node,
    stop_process,
)
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.evaluation.sequences import BagSequence, ByStamp
from eseg_ros.runtime.types import Frame

MASK_BAG = "masks"
RECORD_FILE = "replay.json"

DROPPED = {
    "lost_before_node": "lost between player and node",
    "dropped_busy": "replaced by a newer image before the engine was free",
    "dropped_stale": "too old when the engine was free",
    "rejected": "not usable as an image",
    "failed": "lost to a failure of the engine",
    "lost_after_node": "masks lost between node and recorder",
}
"""Where frames can get lost, in the order of their way: key in summary.json -> words in the report."""

_POLL_S = 0.2


class LiveError(EsegError):
    """The node or the replay failed; the message ends with the node's last lines."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a replay through the node brought; times are nanoseconds of one steady clock.

    Attributes:
        masks: bag with the masks on `MASK_TOPIC`.
        published: (stamp, time) of each image, right before it was published.
        received: (stamp, time) of each mask, as it arrived.
        engine_values: the engine's diagnostics, e.g. {"runtime": "openvino"}.
        camera_values: the camera's diagnostics after the last frame: counters, and milliseconds by stage.
    """

    masks: Path
    published: list[tuple[int, int]]
    received: list[tuple[int, int]]
    engine_values: Mapping[str, str]
    camera_values: Mapping[str, str]

    def latency_by_stamp(self) -> dict[int, float]:
        """Stamp -> milliseconds from the image's publication to the mask's arrival."""
        published_ns = dict(self.published)
        return {stamp: (at_ns - published_ns[stamp]) / 1e6 for stamp, at_ns in self.received if stamp in published_ns}

    def rate_hz(self) -> float:
        """Images a second by their stamps; 0 where these tell nothing."""
        stamps = [stamp for stamp, _ in self.published]
        span_ns = max(stamps) - min(stamps) if stamps else 0
        return (len(stamps) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0

    def dropped(self) -> dict[str, int]:
        """Frames without an answer by where they got lost, keys of DROPPED; empty if the node told nothing."""
        if not self.camera_values:
            return {}
        counters = {key: int(self.camera_values.get(key, 0)) for key in ("received", "published", *DROPPED)}
        counters["lost_before_node"] = len(self.published) - counters["received"]
        counters["lost_after_node"] = counters["published"] - len(self.received)
        return {key: counters[key] for key in DROPPED}


def live_views(sequence: BagSequence, run: LiveRun) -> Iterator[FrameView]:
    """Every image that was published, with its mask where one came back.

    Raises:
        EsegError: a bag is damaged or does not hold what its topics promise.
    """
    latency_ms = run.latency_by_stamp()
    with ExitStack() as stack:
        masks: Iterator[Frame] = iter(())
        if run.received:
            masks = stack.enter_context(BagReader(run.masks)).frames(MASK_TOPIC)
        answers = ByStamp(masks)
        for index, labeled in enumerate(islice(sequence.frames(), len(run.published))):
            answer = answers.find(labeled.frame.stamp_ns)
            yield FrameView(
                name=labeled.name,
                index=index,
                frame=labeled.frame,
                mask=None if answer is None else mono8_pixels(answer),
                label=labeled.label,
                label_source=labeled.source,
                latency_ms=latency_ms.get(labeled.frame.stamp_ns, float("nan")),
            )


def live_facts(run: LiveRun) -> dict[str, Any]:
    """What is known of a replay besides its frames, for its record."""
    inference = run.camera_values.get("inference p50 (ms)")
    return {
        "runtime": run.engine_values.get("runtime"),
        "device": run.engine_values.get("device"),
        "rate_hz": round(run.rate_hz(), 3),
        "dropped": run.dropped(),
        "inference_p50_ms": None if inference is None else float(inference),
    }


def run_live(
    bag: Path,
    topic: str,
    *,
    compressed: bool,
    engine: Path,
    folder: Path,
    frames: int | None = None,
    rate: float = 1.0,
    parameters: Mapping[str, Any] | None = None,
) -> LiveRun:
    """Replay one image topic of a bag through the segmentation node.

    Args:
        bag: bag folder or file.
        topic: its image topic.
        compressed: whether the topic holds CompressedImage.
        engine: manifest path.
        folder: takes the masks, the node's parameters and its log; must exist and hold none of them.
        frames: at most so many images; None for all.
        rate: times the recorded speed.
        parameters: further parameters of the node.

    Raises:
        LiveError: the node died or did not become active.
        ProcessError: it did not end cleanly.
    """
    environment = ros_environment()
    given = {"use_sim_time": True, "diagnostics_period_s": 0.5, **(parameters or {})}
    limit = [] if frames is None else ["--frames", str(frames)]
    with running_node(node_parameters(engine, topic, compressed=compressed) | given, folder, environment) as node:
        command = [sys.executable, "-m", "eseg_ros.node.recorder", str(bag), "--topic", topic, "--rate", str(rate)]
        command += ["--mask-topic", MASK_TOPIC, "--masks", str(folder / MASK_BAG)]
        command += ["--record", str(folder / RECORD_FILE), *limit]
        recorder = subprocess.Popen(command, env=environment)
        try:
            status = _wait(recorder, node, folder)
        finally:
            stop_process(recorder)
        if status != 0:
            raise LiveError(f"the replay ended with status {status}, see above. {last_lines(folder / NODE_LOG)}")
    replay = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    return LiveRun(
        masks=folder / MASK_BAG,
        published=[(stamp, at) for stamp, at in replay["published"]],
        received=[(stamp, at) for stamp, at in replay["received"]],
        engine_values=_values(replay["diagnostics"], ": engine"),
        camera_values=_values(replay["diagnostics"], f": camera {CAMERA}"),
    )


def _wait(recorder: subprocess.Popen[bytes], node: subprocess.Popen[bytes], folder: Path) -> int:
    """The recorder's exit status; an error as soon as the node is gone."""
    while True:
        try:
            return recorder.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if node.poll() is not None:
                raise LiveError(
                    f"the node died with status {node.returncode}. {last_lines(folder / NODE_LOG)}"
                ) from None


def _values(diagnostics: Mapping[str, Any], name_end: str) -> Mapping[str, str]:
    return next((status["values"] for name, status in diagnostics.items() if name.endswith(name_end)), {})
