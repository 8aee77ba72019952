"""Times engines stage by stage, side by side, through the node's own runtimes and pipeline.

Every configuration, an engine in an inference library, lives in a process of its own: two libraries in one process
share cores and allocator and disturb each other. The processes take turns, a block of frames each, round after round,
so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import image_frame, read_frame
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError, RuntimeUnavailableError
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs

FRAMES = 8
"""Different frames in a block: postprocessing takes longer where there are more borders between classes."""

STAGES = ("preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms")

Size = tuple[int, int]
"""(width, height), pixels."""


class BenchError(EsegError):
    """A configuration could not be timed."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one process times: an engine in a library, on frames of one size.

    Attributes:
        engine: manifest.
        runtime: "openvino" or "onnxruntime".
        threads: of the library, 0 = its own choice.
        frames: .npy file of (FRAMES, H, W, 3) uint8 BGR.
    """

    engine: Path
    runtime: str
    threads: int
    frames: Path


@dataclass(frozen=True, slots=True)
class Block:
    """A block's times.

    Attributes:
        stages: name of STAGES -> a value a frame, milliseconds, one frame under way at a time.
        fps_depth1: frames a second, one under way at a time.
        fps_depth2: frames a second, two under way at a time.
    """

    stages: dict[str, list[float]]
    fps_depth1: float
    fps_depth2: float


def bench(
    engines: Sequence[Path],
    sizes: Sequence[Size] = (),
    runtimes: Sequence[str] = (),
    repeat: int = 10,
    threads: int = 0,
    camera: Size | None = None,
    data: Path | None = None,
) -> dict[str, Any]:
    """Time every engine at every size in every runtime.

    Args:
        engines: manifests.
        sizes: input sizes that the engines are fitted to (`engine.export.resize_engine`, real weights); empty = as
            they are.
        runtimes: "openvino", "onnxruntime"; empty = those that are installed.
        repeat: rounds; each times FRAMES frames a configuration and depth.
        threads: of the inference library, 0 = its own choice.
        camera: size of the frames; without it, each engine's input size.
        data: data set whose `val` frames, resized, are used; without it, rendered frames.

    Returns:
        machine; load: processes that wanted a core before the start (a busy machine's numbers are only good for
        comparing their neighbours); versions (the inference library's is part of each device); date; repeat; frames:
        "rendered" or the data set's name; configurations: a list in the order of the arguments, see `summarize`.

    Raises:
        EngineError: an engine cannot be read or fitted.
        RuntimeUnavailableError: a library is not installed.
        BenchError: a configuration's process died.
    """
    load = os.getloadavg()[0]
    runtimes = runtimes or _installed_runtimes()
    with TemporaryDirectory(prefix="eseg_bench_") as folder, ExitStack() as stack:
        configurations = [
            Configuration(fitted, runtime, threads, _frames_file(camera or input_size(fitted), data, Path(folder)))
            for index, engine in enumerate(tqdm(engines, desc="preparing", unit="engine", leave=False, disable=None))
            for fitted in fitted_engines(engine, sizes, Path(folder, str(index)))
            for runtime in runtimes
        ]
        workers = [stack.enter_context(Worker(configuration)) for configuration in configurations]
        blocks = _take_turns(workers, repeat)
        results = [worker.description | summarize(blocks[index]) for index, worker in enumerate(workers)]
    return {
        "machine": machine_description(),
        "load": rounded(load),
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "repeat": repeat,
        "frames": f"{data.resolve().name}/val" if data else "rendered",
        "configurations": results,
    }


def summarize(blocks: Sequence[Block]) -> dict[str, Any]:
    """Median and 95th percentile a stage, and the two ratios that matter.

    Returns:
        preprocess_ms, inference_ms, postprocess_ms, latency_ms: {"median", "p95"} over all frames; overhead: median of
        (preprocess + postprocess) / inference, frame by frame; fps_depth1, fps_depth2: medians over the blocks;
        depth2_gain: median of their ratio, block by block.
    """
    stages = {name: np.concatenate([block.stages[name] for block in blocks]) for name in STAGES}
    overhead = (stages["preprocess_ms"] + stages["postprocess_ms"]) / stages["inference_ms"]
    return {
        **{
            name: {"median": rounded(np.median(times)), "p95": rounded(np.percentile(times, 95))}
            for name, times in stages.items()
        },
        "overhead": rounded(np.median(overhead)),
        "fps_depth1": rounded(np.median([block.fps_depth1 for block in blocks])),
        "fps_depth2": rounded(np.median([block.fps_depth2 for block in blocks])),
        "depth2_gain": rounded(np.median([block.fps_depth2 / block.fps_depth1 for block in blocks])),
    }


def time_block(pipeline: Pipeline, frames: Sequence[Frame]) -> Block:
    """Time one block of frames at depth 1 and at depth 2; the pipeline's runtime has two slots.

    The first frame of each is not counted: the caches are still another process's.
    """
    outputs = Outputs()
    pipeline.submit(frames[-1], outputs)
    pipeline.collect()
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    start = time.perf_counter()
    for frame in frames:
        submitted = time.perf_counter()
        pipeline.submit(frame, outputs)
        timings = pipeline.collect().timings
        stages["latency_ms"].append(1e3 * (time.perf_counter() - submitted))
        stages["preprocess_ms"].append(timings.preprocess_ms)
        stages["inference_ms"].append(timings.inference_ms)
        stages["postprocess_ms"].append(timings.postprocess_ms)
    fps_depth1 = len(frames) / (time.perf_counter() - start)
    results = pipeline.map([frames[-1], *frames], outputs)
    next(results)
    start = time.perf_counter()
    rest = sum(1 for _ in results)
    return Block(stages, fps_depth1, rest / (time.perf_counter() - start))


def _take_turns(workers: Sequence[Worker], repeat: int) -> list[list[Block]]:
    """A list of `repeat` blocks for each worker, measured round-robin."""
    blocks: list[list[Block]] = [[] for _ in workers]
    with tqdm(total=repeat * len(workers), desc="timing", unit="block", disable=None) as bar:
        for _ in range(repeat):
            for own, worker in zip(blocks, workers, strict=True):
                own.append(worker.time_block())
                bar.update()
    return blocks


class Worker:
    """A process that holds one configuration loaded and times a block whenever it is told to."""

    def __init__(self, configuration: Configuration) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit this process's libraries and threads
        self._name = f"{configuration.engine.stem} in {configuration.runtime}"
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, configuration), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.description: dict[str, Any] = self._receive()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join()

    def time_block(self) -> Block:
        self._connection.send(None)
        block: Block = self._receive()
        return block

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise BenchError(
                f"{self._name}: its process ended with status {self._process.exitcode}; if it was killed, there is "
                "too little memory: name fewer engines, sizes or runtimes at once"
            ) from None
        if isinstance(answer, EsegError):
            raise answer
        return answer


def _serve(connection: Connection, configuration: Configuration) -> None:
    """Load the configuration, describe it, then answer each message with a block, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    try:
        engine = load_engine(configuration.engine)
        frames = [image_frame(image) for image in np.load(configuration.frames)]
        with Pipeline(create_runtime(engine, configuration.runtime, 2, configuration.threads)) as pipeline:
            spec = engine.manifest.input
            connection.send(
                {
                    "engine": engine.manifest.name,
                    "model": engine.manifest.model,
                    "input": f"{spec.width}x{spec.height}",
                    "camera": f"{frames[0].width}x{frames[0].height}",
                    "runtime": pipeline.runtime.name,
                    "device": pipeline.runtime.device,
                    "precision": engine.manifest.precision,
                }
            )
            while _asked(connection):
                connection.send(time_block(pipeline, frames))
    except EsegError as error:
        connection.send(error)
    except BrokenPipeError:
        pass  # the parent gave up and says why


def _asked(connection: Connection) -> bool:
    """Wait for a message; whether there was one before the other end closed."""
    try:
        connection.recv()
    except (EOFError, ConnectionResetError):
        return False
    return True


def fitted_engines(engine: Path, sizes: Sequence[Size], folder: Path) -> Iterable[Path]:
    """The manifest of the engine at each size: its own where it has it, else that of a new one in `folder`."""
    manifest = load_engine(engine).manifest
    for size in sizes or (input_size(engine),):
        if size == input_size(engine):
            yield engine
        else:
            from eseg_ros.engine.export import resize_engine

            yield resize_engine(engine, f"{manifest.name}_{size[0]}x{size[1]}", folder, size)


def input_size(engine: Path) -> Size:
    """Of an engine's manifest."""
    spec = load_engine(engine).manifest.input
    return spec.width, spec.height


def _frames_file(size: Size, data: Path | None, folder: Path) -> Path:
    """FRAMES frames of one size, made once, as a .npy file in `folder`."""
    path = folder / f"frames_{size[0]}x{size[1]}.npy"
    if not path.exists():
        bar = tqdm(
            frame_images(size, data), total=FRAMES, desc=f"frames {size[0]}x{size[1]}", unit="frame", disable=None
        )
        np.save(path, np.stack(list(bar)))
    return path


def frame_images(size: Size, data: Path | None) -> Iterable[Image8]:
    """FRAMES images (H, W, 3) BGR of one size: rendered ones, or those of `data`'s `val` split, resized."""
    if data is None:
        from eseg_ros.rendering.renderer import render_frame

        return (render_frame(seed, *size).image for seed in range(FRAMES))
    samples = list_samples(data, "val", find_layout(data), labels="unused")
    chosen = (samples[index] for index in np.linspace(0, len(samples) - 1, FRAMES).astype(int))
    return (cv2.resize(decode(read_frame(sample.image)), size) for sample in chosen)


def _installed_runtimes() -> list[str]:
    installed = [name for name in ("openvino", "onnxruntime") if find_spec(name)]
    if not installed:
        raise RuntimeUnavailableError("no inference library is installed: pip install openvino onnxruntime")
    return installed


def rounded(value: Any) -> float:
    """A number for a report."""
    return round(float(value), 4)
