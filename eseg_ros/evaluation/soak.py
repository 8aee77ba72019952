"""The node on a bag that loops, for as long as one likes, watched from outside for anything that grows.

Every output is subscribed to, so that everything is computed and published, and each loop takes the clock back.
"""

from __future__ import annotations

import html
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eseg_ros.bag.reader import BagReader
from eseg_ros.bag.writer import COMPRESSED_IMAGE
from eseg_ros.engine.manifest import write_atomically
from eseg_ros.errors import EsegError, UsageError
from eseg_ros.evaluation.charts import timeline_svg
from eseg_ros.evaluation.processes import (
    CAMERA,
    MASK_TOPIC,
    cpu_seconds,
    node_parameters,
    process_holdings,
    ros_environment,
    running,
    running_node,
    until_said,
)
from eseg_ros.node.benchmark import HEARD

OUTPUTS = ("mask", "color_mask", "overlay", "confidence")
HEARD_FILE = "heard.json"
JSON_FILE = "soak.json"
PAGE_FILE = "soak.html"
SETTLING = 0.2
"""Share of the samples at the beginning from which nothing is concluded: buffers find their size."""

LIMITS = {"memory_mib": 8.0, "threads": 0.0, "files": 0.0}
"""What may have grown from the first fifth after settling to the last one."""


class SoakError(EsegError):
    """A process died while it was watched."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the node's process holds at one moment.

    Attributes:
        time_s: since the first sample.
        memory_mib: its own memory (RssAnon); what it shares with other processes does not count.
        threads: of the process.
        files: open file descriptors.
        cpu_s: CPU time so far.
    """

    time_s: float
    memory_mib: float
    threads: int
    files: int
    cpu_s: float


def soak(
    engine: Path,
    bag: Path,
    topic: str | None,
    seconds: float,
    folder: Path,
    *,
    rate: float = 1.0,
    period_s: float = 1.0,
) -> tuple[list[Sample], int]:
    """Run the node on a looping bag and look at its process again and again.

    Args:
        engine: manifest.
        bag: played over and over.
        topic: its image topic; None for its only one.
        seconds: how long, from the first mask on.
        folder: takes the node's parameters and log, and those of the others; must exist.
        rate: times the recorded speed.
        period_s: from one sample to the next.

    Returns:
        The samples, and how many masks came.

    Raises:
        SoakError: the player or the listener died.
        EsegError: the node died or did not end cleanly, or the bag cannot be read.
    """
    name, compressed = _image_topic(bag, topic)
    environment = ros_environment()
    parameters = node_parameters(engine, name, compressed=compressed) | {"use_sim_time": True}
    player = [str(bag), "--topics", name, "--rate", str(rate), "--loop"]
    player += ["--wait-for-subscribers", "1", "--wait-timeout", "120"]
    listener = [*(f"/segmentation/{CAMERA}/{output}" for output in OUTPUTS), "--record", str(folder / HEARD_FILE)]
    with ExitStack() as stack:
        node = stack.enter_context(running_node(parameters, folder, environment))
        hearing = stack.enter_context(running("benchmark.listener", listener, folder, environment))
        playing = stack.enter_context(running("bag_player", player, folder, environment))
        until_said(hearing, HEARD, folder / "benchmark.listener.log")
        samples = list(_watch(node, (hearing, playing), seconds, period_s))
    heard = json.loads((folder / HEARD_FILE).read_text(encoding="utf-8"))
    return samples, heard["counts"][MASK_TOPIC]


def growth(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Name of LIMITS -> {"from", "to", "held"}: medians of the first fifth after settling and of the last fifth.

    Raises:
        UsageError: fewer than ten samples.
    """
    if len(samples) < 10:
        raise UsageError(f"nothing can be concluded from {len(samples)} samples; watch for longer")
    settled = samples[round(SETTLING * len(samples)) :]
    fifth = len(settled) // 5
    judged = {}
    for name, limit in LIMITS.items():
        values = [getattr(sample, name) for sample in settled]
        before, after = float(np.median(values[:fifth])), float(np.median(values[-fifth:]))
        judged[name] = {"from": before, "to": after, "held": after - before <= limit}
    return judged


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write the numbers as JSON and as a page with a plot of each."""
    write_atomically(folder / JSON_FILE, (json.dumps(report, indent=2) + "\n").encode())
    plots = [
        f"<h2>{title}</h2>" + timeline_svg(np.array([sample[name] for sample in report["samples"]], np.float64), {})
        for name, title in (
            ("memory_mib", "memory, MiB"),
            ("threads", "threads"),
            ("files", "open files"),
            ("cpu_s", "CPU time, s"),
        )
    ]
    facts = f"{report['published']} masks in {report['minutes']:g} minutes; {report['machine']}; {report['date']}"
    page = (
        "<!doctype html><meta charset=utf-8><title>soak</title><style>body{font:15px sans-serif;margin:2em auto;"
        "max-width:60em}svg{width:100%}path{fill:none;stroke:#1668a8}.grid{stroke:#ddd}text{font-size:9px;fill:#555}"
        f"</style><h1>The node on a looping bag</h1><p>{html.escape(facts)}</p>{''.join(plots)}"
        f"<p><code>{html.escape(report['command'])}</code></p>\n"
    )
    write_atomically(folder / PAGE_FILE, page.encode())


def _watch(
    node: subprocess.Popen[Any], others: Sequence[subprocess.Popen[Any]], seconds: float, period_s: float
) -> Iterator[Sample]:
    start_s = time.monotonic()
    for index in tqdm(range(round(seconds / period_s) + 1), desc="soaking", unit="sample", disable=None):
        time.sleep(max(0.0, start_s + index * period_s - time.monotonic()))
        elapsed_s = round(time.monotonic() - start_s, 3)
        if any(process.poll() is not None for process in (node, *others)):
            raise SoakError(f"a process died after {elapsed_s:.0f} s; the logs tell why")
        yield Sample(elapsed_s, **process_holdings(node.pid), cpu_s=cpu_seconds(node.pid))


def _image_topic(bag: Path, topic: str | None) -> tuple[str, bool]:
    """Name of the bag's image topic, and whether its images are compressed."""
    with BagReader(bag) as reader:
        found = reader.image_topic(topic)
        return found.name, found.type == COMPRESSED_IMAGE
