"""`eseg bench --node`: what the node costs around its engine, beside the least and beside the usual.

A camera process publishes images at a steady rate, a listener process takes the masks, and between them stands one of

- echo: receives the image and publishes an empty mask of its size, which is the least that any node can take;
- light: the segmentation node with the engine fitted to a small input, on flat images: next to nothing to compute, so
  that what the node itself takes is not hidden by frames that wait for the engine;
- node: the segmentation node with the engine as it is; camera, echo and nodes have the shipped shared-memory profile;
- naive: the node as it is usually written, with the same engine and default settings (`eseg_ros.node.benchmark.naive`).

They take turns, round after round, so that whatever else the machine does hits all alike. The inference library has one
thread, so that the CPU time of an inference can be told.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from eseg_ros.arguments import image_size, positive_float, positive_int
from eseg_ros.engine.manifest import write_atomically
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.bench import Size, fitted_engines, frame_images, rounded
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.evaluation.processes import (
    CAMERA,
    MASK_TOPIC,
    NODE_LOG,
    ProcessError,
    cpu_seconds,
    last_lines,
    node_parameters,
    ros_environment,
    running,
    running_node,
    until_said,
)
from eseg_ros.node.benchmark import DONE, MEASURING
from eseg_ros.share import find_engine
from eseg_ros.text_table import aligned_columns

IMAGE_TOPIC = "/bench/image"
CONTESTANTS = ("echo", "light", "node", "naive")
LIGHT_INPUT = (128, 64)
WARM_UP_S = 2.0
SETTLE_S = 1.5
"""After the last image: longer than a mask and the report after it take to arrive."""

LIMITS = {"lost": 0.0, "outside": 1.3, "latency_gain": 2.0, "cpu_gain": 3.0}
"""What is promised of the node, see `judge`; the gains are the least, the others the most."""

PROMISES = {
    "lost": "images and masks that the transport lost, light and node",
    "outside": "time outside the runtime (p50), light / echo",
    "latency_gain": "from image to mask (p50), naive / node",
    "cpu_gain": "CPU time outside the inference, naive / node",
}
"""Key of LIMITS -> words in the table."""

_RUNTIME_STAGES = ("preprocess", "inference", "postprocess")
_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


class TransportError(EsegError):
    """A contestant cannot be measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """What every contestant gets.

    Attributes:
        engines: contestant -> manifest, for those that have one.
        images: contestant -> .npy file of (N, H, W, 3) uint8 BGR.
        rate_hz: images a second.
        round_s: seconds of a round, after the warm-up.
    """

    engines: Mapping[str, Path]
    images: Mapping[str, Path]
    rate_hz: float
    round_s: float


@dataclass(slots=True)
class Measured:
    """A contestant's rounds, one after the other.

    Attributes:
        published: images after the warm-up.
        latencies_ms: from the publication of an image to the arrival of its mask; one for each mask that came.
        cpu_s: CPU time of the contestant's process meanwhile.
        runtime_ms: median of decoding, preprocessing, inference and postprocessing together, a round each.
        inference_ms: median CPU time of an inference, a round each; only naive can tell.
        lost: images and masks lost between the processes; of naive, whose queues drop as well, images without a mask.
    """

    published: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    runtime_ms: list[float] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)
    lost: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--engine", default="eseg_lite_s_street", help="name or path; default: %(default)s")
    parser.add_argument("--camera", type=image_size, default=(2048, 1024), metavar="WxH", help="default: 2048x1024")
    parser.add_argument("--rate", type=positive_float, default=30.0, metavar="HZ", help="default: 30")
    parser.add_argument("--seconds", type=positive_float, default=60.0, help="of each contestant; default: 60")
    parser.add_argument("--rounds", type=positive_int, default=3, help="in which they take turns; default: 3")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers there")


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, and write what was asked for; 1 if a limit is not held."""
    report = bench_transport(find_engine(args.engine), args.camera, args.rate, args.seconds, args.rounds)
    report["command"] = shlex.join(["eseg", *sys.argv[1:]])
    print(transport_table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
        print(f"numbers: {args.json}")
    return 0 if all(limit["held"] for limit in report["limits"].values()) else 1


def bench_transport(
    engine: Path,
    camera: Size = (2048, 1024),
    rate_hz: float = 30.0,
    seconds: float = 60.0,
    rounds: int = 3,
    light: Path | None = None,
) -> dict[str, Any]:
    """Measure all contestants.

    Args:
        engine: manifest; node and naive run it with OpenVINO.
        light: the light node's; None fits `engine`, which must have been exported by this package.
        camera: (width, height) of the images, pixels.
        rate_hz: images a second.
        seconds: of each contestant, all rounds together.
        rounds: in which they take turns.

    Returns:
        machine, load (processes that wanted a core before the start), date, the arguments, contestants: name -> see
        `summarize`; limits: name -> {"value", "limit", "held"}, see `judge`.

    Raises:
        EsegError: a process failed, or nobody answered.
    """
    load_average = os.getloadavg()[0]
    measured = {name: Measured() for name in CONTESTANTS}
    with TemporaryDirectory(prefix="eseg_bench_node_") as folder:
        rendered = np.stack(list(frame_images(camera, None)))
        images = {name: Path(folder) / f"{'flat' if name == 'light' else 'rendered'}.npy" for name in CONTESTANTS}
        np.save(images["node"], rendered)
        np.save(images["light"], np.full_like(rendered, 128))
        if light is None:
            (light,) = fitted_engines(engine, [LIGHT_INPUT], Path(folder))
        engines = {"light": light.resolve(), "node": engine.resolve(), "naive": engine.resolve()}
        load = Load(engines, images, rate_hz, seconds / rounds)
        turns = [(turn, name) for turn in range(rounds) for name in CONTESTANTS]
        for turn, name in (bar := tqdm(turns, unit="round")):
            bar.set_description(name)
            workplace = Path(folder) / f"{name}_{turn}"
            workplace.mkdir()
            measure(name, load, workplace, measured[name])
    inference_ms = median(measured["naive"].inference_ms)
    with_engine = {"node": inference_ms, "naive": inference_ms}  # the same network, the same arithmetic
    contestants = {name: summarize(measured[name], with_engine.get(name)) for name in CONTESTANTS}
    return {
        "machine": machine_description(),
        "load": rounded(load_average),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "engine": engine.stem,
        "camera": f"{camera[0]}x{camera[1]} bgr8",
        "rate_hz": rate_hz,
        "seconds": seconds,
        "rounds": rounds,
        "contestants": contestants,
        "limits": judge(contestants),
    }


def measure(name: str, load: Load, folder: Path, measured: Measured) -> None:
    """Add one round of one contestant.

    Raises:
        EsegError: a process failed.
    """
    shipped = name != "naive"
    environment = ros_environment()
    if not shipped:
        environment = {key: value for key, value in environment.items() if key not in _PROFILES}
    count, warm_up = round(load.round_s * load.rate_hz), round(WARM_UP_S * load.rate_hz)
    camera = [str(load.images[name]), "--topic", IMAGE_TOPIC, "--answers", MASK_TOPIC, "--rate", str(load.rate_hz)]
    camera += ["--count", str(count), "--warm-up", str(warm_up), "--record", str(folder / "camera.json")]
    listener = [MASK_TOPIC, "--record", str(folder / "listener.json")]
    with ExitStack() as stack:
        contestant = stack.enter_context(_contestant(name, load, folder, environment))
        stack.enter_context(_benchmark("listener", listener, folder, environment))
        reliable = [] if shipped else ["--reliable"]
        publisher = stack.enter_context(_benchmark("camera", [*camera, *reliable], folder, environment))
        try:
            until_said(publisher, MEASURING, folder / "benchmark.camera.log")
        except ProcessError as error:  # most often because the contestant does not answer, and its log says why
            log = folder / (NODE_LOG if name in ("light", "node") else f"benchmark.{name}.log")
            raise TransportError(f"{name} cannot be measured: {error}\n{last_lines(log)}") from error
        before_s = cpu_seconds(contestant.pid)
        until_said(publisher, DONE, folder / "benchmark.camera.log")
        measured.cpu_s += cpu_seconds(contestant.pid) - before_s
        publisher.wait()
        time.sleep(SETTLE_S)
    sent, heard = _read(folder / "camera.json"), _read(folder / "listener.json")
    arrivals = dict(heard["received"])
    latencies_ms = [(arrivals[stamp] - at) / 1e6 for stamp, at in sent["published"] if stamp in arrivals]
    measured.published += len(sent["published"])
    measured.latencies_ms += latencies_ms
    if name in ("light", "node"):
        values = heard["diagnostics"][f"segmentation: camera {CAMERA}"]
        measured.runtime_ms.append(sum(float(values[f"{stage} p50 (ms)"]) for stage in _RUNTIME_STAGES))
        sent_in_all = sent["warm_up"] + len(sent["published"])
        measured.lost += sent_in_all - int(values["received"]) + int(values["published"]) - len(arrivals)
    elif name == "echo":
        measured.lost += sent["warm_up"] + len(sent["published"]) - len(arrivals)
    else:
        measured.lost += len(sent["published"]) - len(latencies_ms)
        measured.inference_ms.append(median(_read(folder / "naive.json")["inference_ms"]))


def summarize(measured: Measured, inference_ms: float | None) -> dict[str, Any]:
    """A contestant's numbers.

    Args:
        measured: its rounds.
        inference_ms: CPU time of one inference, for those whose own CPU time is asked for.

    Returns:
        published, answered: images and masks; lost: see `Measured`; latency_ms: p50, p95, p99 from an image's
        publication to its mask's arrival; runtime_ms: median, None where there is no such; outside_ms: latency p50
        without the runtime; inference_ms: see above; cpu_ms: CPU time of the process for each mask, without it.

    Raises:
        TransportError: no mask came.
    """
    answered = len(measured.latencies_ms)
    if not answered:
        raise TransportError(f"none of {measured.published} images was answered")
    latency = {f"p{percent}": rounded(np.percentile(measured.latencies_ms, percent)) for percent in (50, 95, 99)}
    runtime_ms = rounded(median(measured.runtime_ms)) if measured.runtime_ms else None
    return {
        "published": measured.published,
        "answered": answered,
        "lost": measured.lost,
        "latency_ms": latency,
        "runtime_ms": runtime_ms,
        "inference_ms": None if inference_ms is None else rounded(inference_ms),
        "outside_ms": rounded(latency["p50"] - (runtime_ms or 0.0)),
        "cpu_ms": rounded(measured.cpu_s * 1e3 / answered - (inference_ms or 0.0)),
    }


def judge(contestants: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was promised of the node, by what was measured: key of LIMITS -> {"value", "limit", "held"}.

    lost: images and masks that the transport lost; outside: the light node's time outside the runtime as a multiple of
    the echo's; latency_gain and cpu_gain: how many times the naive node's p50 latency and its CPU time outside the
    inference are the node's.
    """
    echo, light, node, naive = (contestants[name] for name in CONTESTANTS)
    values = {
        "lost": light["lost"] + node["lost"],
        "outside": light["outside_ms"] / echo["outside_ms"],
        "latency_gain": naive["latency_ms"]["p50"] / node["latency_ms"]["p50"],
        "cpu_gain": naive["cpu_ms"] / node["cpu_ms"],
    }
    return {
        name: {
            "value": rounded(values[name]),
            "limit": limit,
            "held": bool(values[name] >= limit if _is_gain(name) else values[name] <= limit),
        }
        for name, limit in LIMITS.items()
    }


def transport_table(report: Mapping[str, Any]) -> str:
    """A report as text."""
    rows = [("", "images", "masks", "lost", "p50", "p95", "p99", "runtime", "outside", "CPU")]
    for name, numbers in report["contestants"].items():
        latency = [f"{numbers['latency_ms'][key]:.1f}" for key in ("p50", "p95", "p99")]
        counts = [str(numbers[key]) for key in ("published", "answered", "lost")]
        runtime = "-" if numbers["runtime_ms"] is None else f"{numbers['runtime_ms']:.1f}"
        rows.append((name, *counts, *latency, runtime, f"{numbers['outside_ms']:.1f}", f"{numbers['cpu_ms']:.1f}"))
    limits = [
        f"{'held' if limit['held'] else 'NOT HELD':8}  {PROMISES[name]}: {limit['value']:g}, "
        f"{'at least' if _is_gain(name) else 'at most'} {limit['limit']:g}"
        for name, limit in report["limits"].items()
    ]
    return "\n".join(
        [
            f"{report['machine']}; load before {report['load']:.1f}",
            f"{report['engine']}, {report['camera']}, {report['rate_hz']:g} Hz, {report['seconds']:g} s each",
            *aligned_columns(rows, right=True),
            "p50 to p99: ms from an image's publication to its mask's arrival; runtime: ms of decoding, preprocessing,",
            "inference, postprocessing; outside: p50 without it; CPU: ms of the process for a mask, in node and naive",
            "without the inference's",
            *limits,
        ]
    )


def _is_gain(limit: str) -> bool:
    return limit.endswith("gain")


@contextmanager
def _contestant(name: str, load: Load, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[Any]]:
    topics = [IMAGE_TOPIC, MASK_TOPIC]
    if name == "echo":
        with _benchmark("echo", topics, folder, environment) as process:
            yield process
    elif name == "naive":
        record = ["--record", str(folder / "naive.json")]
        with _benchmark("naive", [str(load.engines[name]), *topics, *record], folder, environment) as process:
            yield process
    else:
        parameters = node_parameters(load.engines[name], IMAGE_TOPIC)
        parameters |= {"runtime": "openvino", "threads": 1, "diagnostics_period_s": 0.5}
        with running_node(parameters, folder, environment) as process:
            yield process


def _benchmark(
    name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(f"benchmark.{name}", arguments, folder, environment)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
