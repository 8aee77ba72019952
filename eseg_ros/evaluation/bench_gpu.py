"""Times engines on a GPU: each alone on the device, then inside the pipeline with one and with two frames under way.

All networks are loaded in one process and one context. They take turns, a block of frames each, round after round, and
what is compared is compared within a block, so that a clock that falls or a machine that is busy hits both sides.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from eseg_ros.data.reading import image_frame
from eseg_ros.errors import DeviceError
from eseg_ros.evaluation.bench import Size, frame_images, rounded
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.cuda.network import DeviceNetwork
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Outputs, Timings

PERCENTILES = (50, 95, 99)
WARM_UP = 8
"""Frames before the first block: each slot captures its graph at its second frame and trusts it at its third."""

UNCOUNTED = 2
"""Frames and inferences at the beginning of each measurement: the clocks and caches are still another network's."""

LATENCY_LIMIT = 1.05
"""A frame's median time, one under way, over that of its parts: host's copies, preprocess, bare engine, postprocess."""

THROUGHPUT_LIMIT = 0.97
"""Frames a second with two under way, over inferences a second of the bare engine."""

STAGES = ("copies_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms", "latency_depth2_ms")


@dataclass(frozen=True, slots=True)
class BareTimes:
    """An engine alone, its input on the device already.

    Attributes:
        latencies_ms: of inferences one at a time, by the device's clock.
        fps: inferences a second, one enqueued right behind the other.
    """

    latencies_ms: list[float]
    fps: float


@dataclass(frozen=True, slots=True)
class GpuBlock:
    """A block's times.

    Attributes:
        bare: "plain", launched piece by piece, and "graph", as one CUDA graph, where the engine can be captured.
        stages: name of STAGES -> a value a frame. `copies_ms` is what the host copies, the frame into page-locked
            memory and the mask out of it, timed by itself; preprocess and postprocess are kernels and transfers;
            `latency_ms` is from submit to result with one frame under way, `latency_depth2_ms` with two.
        fps_depth1, fps_depth2: frames a second with one and two under way.
    """

    bare: dict[str, BareTimes]
    stages: dict[str, list[float]]
    fps_depth1: float
    fps_depth2: float


def bench_gpu(
    networks: Sequence[DeviceNetwork],
    repeat: int = 10,
    frames: int = 50,
    camera: Size | None = None,
    data: Path | None = None,
    options: CudaOptions | None = None,
    make_driver: Callable[[], Driver] = open_driver,
) -> dict[str, Any]:
    """Time every network, alone and in the pipeline.

    Args:
        networks: not loaded; they belong to the benchmark from now on.
        repeat: rounds.
        frames: frames, and inferences, of each measurement of a round.
        camera: size of the frames; without it, each network's input size.
        data: data set whose `val` frames, resized, are used; without it, rendered frames.
        options: how the GPU is used.
        make_driver: a driver for each network.

    Returns:
        machine, gpu, driver, versions, date, repeat, frames: of the run; configurations: a list in the order of
        `networks`, see `summarize_gpu`.

    Raises:
        RuntimeUnavailableError: there is no GPU, or a network's library is missing.
        EngineError: an engine does not fit the machine.
        DeviceError: the device refused.
    """
    options = options or CudaOptions()
    report = _describe_run(make_driver(), options, repeat, frames, data)
    images: dict[Size, list[Frame]] = {}
    with ExitStack() as stack:
        subjects = []
        for network in tqdm(networks, desc="loading", unit="network", leave=False, disable=None):
            spec = network.manifest.input
            size = camera or (spec.width, spec.height)
            if size not in images:
                images[size] = [image_frame(image) for image in frame_images(size, data)]
            subjects.append(stack.enter_context(GpuSubject(make_driver(), network, images[size], options)))
        blocks: list[list[GpuBlock]] = [[] for _ in subjects]
        with tqdm(total=repeat * len(subjects), desc="timing", unit="block", disable=None) as bar:
            for _ in range(repeat):
                for own, subject in zip(blocks, subjects, strict=True):
                    own.append(subject.time_block(frames))
                    bar.update()
        report["configurations"] = [
            subject.description | summarize_gpu(own) for own, subject in zip(blocks, subjects, strict=True)
        ]
    return report


def _describe_run(driver: Driver, options: CudaOptions, repeat: int, frames: int, data: Path | None) -> dict[str, Any]:
    info = driver.open(options.device)
    driver.close()
    return {
        "machine": machine_description(),
        "gpu": asdict(info) | {"capability": ".".join(map(str, info.capability))},
        "driver": driver.name,
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": asdict(options),
        "repeat": repeat,
        "frames_per_measurement": frames,
        "frames": f"{data.resolve().name}/val" if data else "rendered",
    }


class GpuSubject:
    """A network loaded in its pipeline, timed block by block; a context manager that frees both.

    The bare engine is the pipeline's own, launched on another stream while no frame is under way.
    """

    def __init__(self, driver: Driver, network: DeviceNetwork, frames: Sequence[Frame], options: CudaOptions) -> None:
        self._frames = frames
        self._network = network
        self._pipeline = Pipeline(CudaRuntime(driver, network, 2, options))
        self._resources = ExitStack()
        try:
            self._resources.callback(self._pipeline.close)
            self._pipeline.load()
            run_frames(self._pipeline, self._some(WARM_UP), 2)
            self._bare = BareEngine(driver, network, self._resources, graphs=options.graphs)
            self._copies = HostCopies(driver, frames[0], self._resources)
        except BaseException:
            self._resources.close()
            raise

    def __enter__(self) -> GpuSubject:
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    @property
    def description(self) -> dict[str, Any]:
        """What is timed."""
        manifest = self._network.manifest
        return {
            "name": manifest.name,
            "model": manifest.model,
            "input": f"{manifest.input.width}x{manifest.input.height}",
            "camera": f"{self._frames[0].width}x{self._frames[0].height}",
            "precision": manifest.precision,
            "network": self._network.description,
            "device": self._pipeline.runtime.device,
            "bare_graph_refused": self._bare.refusal,
        }

    def time_block(self, count: int) -> GpuBlock:
        """One block of `count` frames and inferences."""
        bare = self._bare.time(count)
        copies = [self._copies.time(frame) for frame in self._some(count)][UNCOUNTED:]
        one = run_frames(self._pipeline, self._some(count), 1)
        two = run_frames(self._pipeline, self._some(count), 2)
        stages = {
            "copies_ms": copies,
            **{name: [getattr(timings, name) for timings in one.timings] for name in STAGES[1:4]},
            "latency_ms": one.latencies_ms,
            "latency_depth2_ms": two.latencies_ms,
        }
        return GpuBlock(bare, stages, one.fps, two.fps)

    def _some(self, count: int) -> Iterable[Frame]:
        """The frames over and over, `count` of them and those that are not counted."""
        return islice(cycle(self._frames), count + UNCOUNTED)


class BareEngine:
    """A loaded and bound network on a stream of its own.

    Args:
        driver: the network's, open.
        network: nothing of it is under way whenever it is timed.
        resources: frees what is made here.
        graphs: whether to capture it as well.

    Attributes:
        refusal: why it cannot be captured; empty if it is.
    """

    def __init__(self, driver: Driver, network: DeviceNetwork, resources: ExitStack, *, graphs: bool) -> None:
        self._driver = driver
        self._network = network
        self._stream = driver.stream()
        resources.callback(driver.destroy_stream, self._stream)
        self._start, self._end = (driver.event(blocking=False) for _ in range(2))
        resources.callback(driver.destroy_event, self._start)
        resources.callback(driver.destroy_event, self._end)
        self.refusal = "" if graphs else "graphs are off"
        self._launches: dict[str, Callable[[], None]] = {"plain": lambda: network.enqueue(self._stream)}
        self.time(1)  # what libraries do only once on a stream, they do not do in a capture
        if graphs:
            self._add_graph(resources)

    def time(self, count: int) -> dict[str, BareTimes]:
        """Each way of launching, `count` inferences one at a time and `count` in a row."""
        return {
            name: BareTimes(self._latencies(launch, count), self._fps(launch, count))
            for name, launch in self._launches.items()
        }

    def _latencies(self, launch: Callable[[], None], count: int) -> list[float]:
        return [self._elapsed(launch, 1) for _ in range(count + UNCOUNTED)][UNCOUNTED:]

    def _fps(self, launch: Callable[[], None], count: int) -> float:
        for _ in range(UNCOUNTED):  # the device is busy when the clock starts
            launch()
        return 1e3 * count / self._elapsed(launch, count)

    def _elapsed(self, launch: Callable[[], None], count: int) -> float:
        """Milliseconds of the device's clock."""
        self._driver.record(self._start, self._stream)
        for _ in range(count):
            launch()
        self._driver.record(self._end, self._stream)
        self._driver.synchronize(self._end)
        return self._driver.elapsed_ms(self._start, self._end)

    def _add_graph(self, resources: ExitStack) -> None:
        try:
            graph = self._capture()
        except DeviceError as error:
            self.refusal = str(error)
            return
        resources.callback(self._driver.destroy_graph, graph)
        self._launches["graph"] = lambda: self._driver.launch_graph(graph, self._stream)

    def _capture(self) -> int:
        self._driver.begin_capture(self._stream)
        try:
            self._network.enqueue(self._stream)
        except BaseException:
            with suppress(DeviceError):  # the stream must leave the capture in any case
                self._driver.destroy_graph(self._driver.end_capture(self._stream))
            raise
        return self._driver.end_capture(self._stream)


class HostCopies:
    """What the host copies of a frame, by itself: its bytes into page-locked memory, a mask of its size out of it."""

    def __init__(self, driver: Driver, frame: Frame, resources: ExitStack) -> None:
        self._size = frame.step * frame.height
        self._pixels = frame.width * frame.height
        self._buffer = driver.alloc_host(self._size + self._pixels)
        resources.callback(driver.free_host, self._buffer)

    def time(self, frame: Frame) -> float:
        """Milliseconds."""
        start = time.perf_counter()
        np.copyto(self._buffer.array[: self._size], np.frombuffer(frame.data, np.uint8, self._size))
        self._buffer.array[self._size :].copy()
        return 1e3 * (time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Run:
    """Frames through a pipeline: milliseconds from submit to result, and results a second, in the steady state."""

    latencies_ms: list[float]
    timings: list[Timings]
    fps: float


def run_frames(pipeline: Pipeline, frames: Iterable[Frame], depth: int) -> Run:
    """Send frames through the pipeline with `depth` under way; the first UNCOUNTED of them are not counted."""
    outputs = Outputs()
    submitted: deque[float] = deque()
    latencies_ms: list[float] = []
    timings: list[Timings] = []
    finished: list[float] = []

    def collect() -> None:
        timings.append(pipeline.collect().timings)
        finished.append(time.perf_counter())
        latencies_ms.append(1e3 * (finished[-1] - submitted.popleft()))

    for frame in frames:
        if pipeline.in_flight == depth:
            collect()
        submitted.append(time.perf_counter())
        pipeline.submit(frame, outputs)
    while pipeline.in_flight:
        collect()
    # From the last uncounted result on: how long the first frames waited for an empty pipeline is left out.
    seconds = finished[-1] - finished[UNCOUNTED - 1]
    counted = len(finished) - UNCOUNTED
    return Run(latencies_ms[UNCOUNTED:], timings[UNCOUNTED:], counted / seconds)


def summarize_gpu(blocks: Sequence[GpuBlock]) -> dict[str, Any]:
    """A configuration's numbers.

    Returns:
        bare: way of launching -> {"p50", "p95", "p99", "fps"}; each of STAGES: {"p50", "p95", "p99"} over all frames;
        rest_ms: median of what a frame takes besides its stages: launches, events, waking up; fps_depth1, fps_depth2:
        medians over the blocks; limits: see `limits_of`.
    """
    launches = blocks[0].bare
    stages = {name: np.concatenate([block.stages[name] for block in blocks]) for name in STAGES}
    rest = stages["latency_ms"] - sum(stages[name] for name in STAGES[:4])
    return {
        "bare": {
            launch: percentiles(np.concatenate([block.bare[launch].latencies_ms for block in blocks]))
            | {"fps": rounded(np.median([block.bare[launch].fps for block in blocks]))}
            for launch in launches
        },
        **{name: percentiles(times) for name, times in stages.items()},
        "rest_ms": rounded(np.median(rest)),
        "fps_depth1": rounded(np.median([block.fps_depth1 for block in blocks])),
        "fps_depth2": rounded(np.median([block.fps_depth2 for block in blocks])),
        "limits": limits_of(blocks),
    }


def limits_of(blocks: Sequence[GpuBlock]) -> dict[str, dict[str, Any]]:
    """The limits that the pipeline is held to, each the median of its ratio, block by block.

    The bare engine is the one that is launched as the pipeline launches it: as a graph, if it can be captured.

    Returns:
        "latency" and "throughput": {"ratio", "limit", "held"}.
    """
    launch = "graph" if "graph" in blocks[0].bare else "plain"
    latency, throughput = [], []
    for block in blocks:
        parts = sum(np.median(block.stages[name]) for name in ("copies_ms", "preprocess_ms", "postprocess_ms"))
        parts += np.median(block.bare[launch].latencies_ms)
        latency.append(np.median(block.stages["latency_ms"]) / parts)
        throughput.append(block.fps_depth2 / block.bare[launch].fps)
    ratios = float(np.median(latency)), float(np.median(throughput))
    return {
        "latency": {"ratio": rounded(ratios[0]), "limit": LATENCY_LIMIT, "held": ratios[0] <= LATENCY_LIMIT},
        "throughput": {"ratio": rounded(ratios[1]), "limit": THROUGHPUT_LIMIT, "held": ratios[1] >= THROUGHPUT_LIMIT},
    }


def percentiles(values: Any) -> dict[str, float]:
    """{"p50", "p95", "p99"}."""
    return {f"p{percent}": rounded(np.percentile(values, percent)) for percent in PERCENTILES}
