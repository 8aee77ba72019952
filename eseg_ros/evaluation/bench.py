"""Times networks stage by stage, side by side, through the node's own runtimes and pipeline.

Every configuration, a network in an inference library, lives in a process of its own (`bench_worker`): two libraries in
one process share cores and allocator and disturb each other. The processes take turns, a block of frames each, round
after round, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import read_frame
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import RuntimeUnavailableError, UsageError
from eseg_ros.evaluation.bench_worker import STAGES, Block, Configuration, Subject, Worker
from eseg_ros.evaluation.bench_worker import Size as Size
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.types import Image8

FRAMES = 8
"""Different frames in a block: postprocessing takes longer where there are more borders between classes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms all subjects are timed.

    Attributes:
        runtimes: "openvino", "onnxruntime"; empty = those that are installed.
        bf16: time fp32 networks in OpenVINO's bfloat16 arithmetic too.
        repeat: rounds; each times FRAMES frames a configuration and depth.
        threads: of the inference library, 0 = its own choice.
        camera: size of the frames; without it, each network's input size.
        data: data set whose frames, resized, are used; without it, rendered frames.
        split: of the data set; where it is named, every engine is scored on all of it too.
    """

    runtimes: Sequence[str] = ()
    bf16: bool = False
    repeat: int = 10
    threads: int = 0
    camera: Size | None = None
    data: Path | None = None
    split: str = ""


def bench(subjects: Sequence[Subject], terms: Terms) -> dict[str, Any]:
    """Time every subject in every runtime.

    Returns:
        machine; load: processes that wanted a core before the start (a busy machine's numbers are only good for
        comparing their neighbors); versions (the inference library's is part of each device); date; repeat; frames:
        "rendered" or the data set's name; scored: the split that "score" is of, or None; configurations: a list in the
        order of the arguments, see `summarize`; of each its engine, model, input, camera, runtime, device, precision,
        file_mb, alone (why only its inference was timed, or None) and score, see `PipelineBench.score`, or None.

    Raises:
        EngineError: an engine cannot be used.
        RuntimeUnavailableError: a library is not installed.
        BenchError: a configuration's process died.
        DataError: a frame or label is missing, unreadable or does not fit; the message names the file.
        UsageError: the terms do not go together.
    """
    load = os.getloadavg()[0]
    with TemporaryDirectory(prefix="eseg_bench_") as folder, ExitStack() as stack:
        configurations = [
            Configuration(subject, runtime, precision, terms.threads, _frames_file(subject, terms, Path(folder)))
            for subject in subjects
            for runtime, precision in _ways_to_run(subject, terms)
        ]
        loading = tqdm(configurations, desc="loading", unit="network", leave=False, disable=None)
        workers = [stack.enter_context(Worker(configuration)) for configuration in loading]
        blocks = _take_turns(workers, terms.repeat)
        scores = _scores(workers, terms)
        results = [
            _describe(worker, terms) | summarize(own, blocks[0]) | {"score": score}
            for worker, own, score in zip(workers, blocks, scores, strict=True)
        ]
    data = terms.data.resolve().name if terms.data else ""
    return {
        "machine": machine_description(),
        "load": rounded(load),
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "repeat": terms.repeat,
        "frames": f"{data}/{terms.split or 'val'}" if data else "rendered",
        "scored": f"{data}/{terms.split}" if terms.split else None,
        "configurations": results,
    }


def summarize(blocks: Sequence[Block], first: Sequence[Block]) -> dict[str, Any]:
    """Median and 95th percentile a stage, and the ratios that matter.

    Args:
        blocks: of a configuration.
        first: of the one that it is compared with, measured in turn with these.

    Returns:
        A key for each of STAGES that was timed: {"median", "p95"} over all frames; overhead: median of (preprocess +
        postprocess) / inference, frame by frame; ratio: median of the inference over the first configuration's, block
        by block; fps_depth1, fps_depth2, cpu_ms: medians over the blocks; depth2_gain: median of their ratio, block by
        block; memory_mb: the most that its process held. None for what a network that is timed alone does not have.
    """
    stages = {name: np.concatenate([block.stages[name] for block in blocks]) for name in blocks[0].stages}
    overhead = depth2 = gain = None
    if len(stages) == len(STAGES):
        around = stages["preprocess_ms"] + stages["postprocess_ms"]
        overhead = rounded(np.median(around / stages["inference_ms"]))
        depth2 = rounded(np.median([block.fps_depth2 for block in blocks]))
        gain = rounded(np.median([(block.fps_depth2 or np.nan) / block.fps_depth1 for block in blocks]))
    return {
        **{
            name: {"median": rounded(np.median(times)), "p95": rounded(np.percentile(times, 95))}
            for name, times in stages.items()
        },
        "overhead": overhead,
        "ratio": rounded(np.median([_inference_ms(a) / _inference_ms(b) for a, b in zip(blocks, first, strict=True)])),
        "fps_depth1": rounded(np.median([block.fps_depth1 for block in blocks])),
        "fps_depth2": depth2,
        "depth2_gain": gain,
        "cpu_ms": rounded(np.median([block.cpu_ms for block in blocks])),
        "memory_mb": round(blocks[-1].memory_mb),
    }


def _inference_ms(block: Block) -> float:
    return float(np.median(block.stages["inference_ms"]))


def _ways_to_run(subject: Subject, terms: Terms) -> Iterable[tuple[str, str]]:
    """Runtime and precision of each of a subject's configurations."""
    runtimes = terms.runtimes or _installed_runtimes()
    if terms.bf16 and "openvino" not in runtimes:
        raise UsageError("--bf16 is OpenVINO's; name it: --runtime openvino")
    for runtime in runtimes:
        yield runtime, subject.precision
        if terms.bf16 and runtime == "openvino" and subject.precision == "fp32":
            yield runtime, "bf16"


def _take_turns(workers: Sequence[Worker], repeat: int) -> list[list[Block]]:
    """A list of `repeat` blocks for each worker, measured round-robin."""
    blocks: list[list[Block]] = [[] for _ in workers]
    with tqdm(total=repeat * len(workers), desc="timing", unit="block", disable=None) as bar:
        for _ in range(repeat):
            for own, worker in zip(blocks, workers, strict=True):
                own.append(worker.time_block())
                bar.update()
    return blocks


def _scores(workers: Sequence[Worker], terms: Terms) -> list[dict[str, Any] | None]:
    """What each worker scores on the split; None where that cannot be told or was not asked for."""
    if not terms.split:
        return [None] * len(workers)
    if terms.data is None:
        raise UsageError("--split names what engines are scored on; say of which data set: --data ROOT")
    bar = tqdm(workers, desc="scoring", unit="engine", disable=None)
    return [worker.score(terms.data, terms.split) if worker.configuration.subject.scorable else None for worker in bar]


def _describe(worker: Worker, terms: Terms) -> dict[str, Any]:
    configuration = worker.configuration
    subject = configuration.subject
    camera = terms.camera or subject.size
    return {
        "engine": subject.name,
        "model": subject.model,
        "input": f"{subject.size[0]}x{subject.size[1]}",
        "camera": f"{camera[0]}x{camera[1]}",
        "runtime": configuration.runtime,
        "device": worker.device,
        "precision": configuration.precision,
        "file_mb": round(subject.file_mb, 2),
        "alone": subject.alone or None,
    }


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


def _frames_file(subject: Subject, terms: Terms, folder: Path) -> Path:
    """FRAMES frames of the size that the subject gets, made once, as a .npy file in `folder`."""
    size = terms.camera if terms.camera and not subject.alone else subject.size
    path = folder / f"frames_{size[0]}x{size[1]}.npy"
    if not path.exists():
        images = frame_images(size, terms.data, terms.split or "val")
        bar = tqdm(images, total=FRAMES, desc=f"frames {size[0]}x{size[1]}", unit="frame", disable=None)
        np.save(path, np.stack(list(bar)))
    return path


def frame_images(size: Size, data: Path | None, split: str = "val") -> Iterable[Image8]:
    """FRAMES images (H, W, 3) BGR of one size: rendered ones, or those of a data set's split, resized."""
    if data is None:
        from eseg_ros.rendering.renderer import render_frame

        return (render_frame(seed, *size).image for seed in range(FRAMES))
    samples = list_samples(data, split, find_layout(data), labels="unused")
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
