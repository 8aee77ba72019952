"""A process that holds one configuration of `eseg bench` loaded, and times or scores it whenever it is told to."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from eseg_ros.data.reading import image_frame
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.bench_runtime import Bfloat16Runtime, Inference, open_inference
from eseg_ros.evaluation.evaluator import every_frame
from eseg_ros.evaluation.metrics import PixelCounts
from eseg_ros.evaluation.scoring import Measures, score_frames
from eseg_ros.evaluation.sequences import folder_sequences
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs

Size = tuple[int, int]
"""(width, height), pixels."""

STAGES = ("preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms")

TIME, SCORE = "time", "score"
"""What a worker can be told."""


class BenchError(EsegError):
    """A configuration could not be timed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network at one input size.

    Attributes:
        name: of the engine, the model or the file.
        path: manifest of an engine, or, where `alone` says something, an ONNX file.
        model: architecture, where it is known.
        size: of its input.
        precision: of the file: "fp32", "fp16" or "int8".
        file_mb: size of its ONNX file as it is shipped, megabytes.
        alone: why nothing but its inference is timed; empty where the pipeline around it is timed too.
        scorable: whether its masks can be scored: its preprocessing and its classes are known.
    """

    name: str
    path: Path
    model: str
    size: Size
    precision: str
    file_mb: float
    alone: str = ""
    scorable: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one process times: a network in a library, on frames of one size.

    Attributes:
        subject: the network.
        runtime: "openvino" or "onnxruntime".
        precision: the subject's, or "bf16": an fp32 file in OpenVINO's bfloat16 arithmetic.
        threads: of the library, 0 = its own choice.
        frames: .npy file of (N, H, W, 3) uint8 BGR.
    """

    subject: Subject
    runtime: str
    precision: str
    threads: int
    frames: Path


@dataclass(frozen=True, slots=True)
class Block:
    """A block's times.

    Attributes:
        stages: name of STAGES -> a value a frame, milliseconds, one frame under way at a time; of a network that is
            timed alone only "inference_ms".
        cpu_ms: CPU time of the whole process for a frame, one under way at a time.
        memory_mb: the most memory that the process has held so far, megabytes.
        fps_depth1: frames a second, one under way at a time.
        fps_depth2: frames a second, two under way at a time; None of a network that is timed alone.
    """

    stages: dict[str, list[float]]
    cpu_ms: float
    memory_mb: float
    fps_depth1: float
    fps_depth2: float | None


class Bench(Protocol):
    """A network, loaded; a context manager."""

    device: str

    def __enter__(self) -> Bench: ...

    def __exit__(self, *error: object) -> None: ...

    def time_block(self) -> Block:
        """Time one block of frames. The first one is not counted: the caches are still another process's."""

    def score(self, root: Path, split: str) -> dict[str, Any]:
        """See `PipelineBench.score`."""


class PipelineBench:
    """An engine in the node's own pipeline with two slots, so that two frames can be under way."""

    def __init__(self, configuration: Configuration) -> None:
        engine = load_engine(configuration.subject.path)
        if configuration.precision == "bf16":
            self._pipeline = Pipeline(Bfloat16Runtime(engine, 2, configuration.threads))
        else:
            self._pipeline = Pipeline(create_runtime(engine, configuration.runtime, 2, configuration.threads))
        self._frames = [image_frame(image) for image in np.load(configuration.frames)]
        self._outputs = Outputs()

    def __enter__(self) -> PipelineBench:
        self._pipeline.__enter__()
        self.device = self._pipeline.runtime.device
        return self

    def __exit__(self, *error: object) -> None:
        self._pipeline.close()

    def time_block(self) -> Block:
        """See `Bench`."""
        pipeline, outputs = self._pipeline, self._outputs
        pipeline.submit(self._frames[-1], outputs)
        pipeline.collect()
        stages: dict[str, list[float]] = {name: [] for name in STAGES}
        start, cpu_start = time.perf_counter(), time.process_time()
        for frame in self._frames:
            submitted = time.perf_counter()
            pipeline.submit(frame, outputs)
            timings = pipeline.collect().timings
            stages["latency_ms"].append(1e3 * (time.perf_counter() - submitted))
            stages["preprocess_ms"].append(timings.preprocess_ms)
            stages["inference_ms"].append(timings.inference_ms)
            stages["postprocess_ms"].append(timings.postprocess_ms)
        count, cpu_s = len(self._frames), time.process_time() - cpu_start
        fps_depth1 = count / (time.perf_counter() - start)
        return Block(stages, 1e3 * cpu_s / count, peak_memory_mb(), fps_depth1, self._fps_depth2())

    def _fps_depth2(self) -> float:
        frames: Sequence[Frame] = [self._frames[-1], *self._frames]
        results = self._pipeline.map(frames, self._outputs)
        next(results)
        start = time.perf_counter()
        rest = sum(1 for _ in results)
        return rest / (time.perf_counter() - start)

    def score(self, root: Path, split: str) -> dict[str, Any]:
        """Score every frame of a split: {"miou", "pixel_accuracy", "frames"}.

        Raises:
            DataError: a frame or label is missing, unreadable or does not fit; the message names the file.
        """
        classes = self._pipeline.runtime.manifest.classes
        measures = Measures(boundary=False, temporal=False, confidence=False)
        pixels, frames = np.zeros((len(classes), len(classes) + 1), np.int64), 0
        for sequence in folder_sequences(root, split, classes):
            for _, score in score_frames(every_frame(sequence, self._pipeline, self._outputs), classes, measures):
                if score.confusion is not None:
                    pixels += score.confusion
                    frames += 1
        counts = PixelCounts.of(pixels)
        return {
            "miou": round(float(counts.miou()), 5),
            "pixel_accuracy": round(float(counts.pixel_accuracy()), 5),
            "frames": frames,
        }


class InferenceBench:
    """Any ONNX file with one image for its input: nothing but its inference is timed."""

    def __init__(self, configuration: Configuration) -> None:
        images = np.load(configuration.frames)
        image = np.ascontiguousarray(images[:1].transpose(0, 3, 1, 2), np.float32)  # (1, 3, H, W)
        image /= 255
        self._count = len(images)
        self._inference: Inference = open_inference(
            configuration.subject.path,
            configuration.runtime,
            image,
            bf16=configuration.precision == "bf16",
            threads=configuration.threads,
        )
        self.device = self._inference.device

    def __enter__(self) -> InferenceBench:
        return self

    def __exit__(self, *error: object) -> None:
        pass  # the process ends

    def time_block(self) -> Block:
        """See `Bench`."""
        self._inference.run()
        times_ms = []
        cpu_start = time.process_time()
        for _ in range(self._count):
            start = time.perf_counter()
            self._inference.run()
            times_ms.append(1e3 * (time.perf_counter() - start))
        cpu_ms = 1e3 * (time.process_time() - cpu_start) / self._count
        return Block({"inference_ms": times_ms}, cpu_ms, peak_memory_mb(), 1e3 * self._count / sum(times_ms), None)

    def score(self, root: Path, split: str) -> dict[str, Any]:
        """It has no masks."""
        raise BenchError(f"a network that is timed alone gives no masks to score on {root}/{split}")


class Worker:
    """The parent's side of the process; a context manager. The process is loading when this is made.

    Raises:
        EsegError: the configuration cannot be loaded.
        BenchError: the process died.
    """

    def __init__(self, configuration: Configuration) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit this process's libraries and threads
        self.configuration = configuration
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, configuration), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.device: str = self._receive()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join()

    def time_block(self) -> Block:
        """See `Bench`."""
        block: Block = self._ask(TIME)
        return block

    def score(self, root: Path, split: str) -> dict[str, Any]:
        """See `PipelineBench.score`."""
        score: dict[str, Any] = self._ask(SCORE, root, split)
        return score

    def _ask(self, *request: Any) -> Any:
        self._connection.send(request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            name = f"{self.configuration.subject.name} in {self.configuration.runtime}"
            raise BenchError(
                f"{name}: its process ended with status {self._process.exitcode}; if it was killed, there is too "
                "little memory: name fewer engines, sizes or runtimes at once"
            ) from None
        if isinstance(answer, EsegError):
            raise answer
        return answer


def _serve(connection: Connection, configuration: Configuration) -> None:
    """Load the configuration, send its device, then answer each request, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    try:
        alone = bool(configuration.subject.alone)
        loaded: Bench = InferenceBench(configuration) if alone else PipelineBench(configuration)
        with loaded as bench:
            connection.send(bench.device)
            while request := _next_request(connection):
                what, *arguments = request
                connection.send(bench.time_block() if what == TIME else bench.score(*arguments))
    except EsegError as error:
        connection.send(error)
    except BrokenPipeError:
        pass  # the parent gave up and says why


def _next_request(connection: Connection) -> tuple[Any, ...] | None:
    """The next message; None once the other end is closed."""
    try:
        request: tuple[Any, ...] = connection.recv()
    except (EOFError, ConnectionResetError):
        return None
    return request


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, megabytes; getrusage's also counts what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6
