"""A whole run: many sequences, by one or many workers, into a folder with a summary and a report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eseg_ros import __version__
from eseg_ros.engine.manifest import EngineManifest, load_engine, write_atomically
from eseg_ros.errors import DeviceError, EsegError
from eseg_ros.evaluation.bootstrap import Resampling
from eseg_ros.evaluation.evaluator import Evaluator, Settings
from eseg_ros.evaluation.ray_workers import RayPool
from eseg_ros.evaluation.record import Record, csv_lines
from eseg_ros.evaluation.report import write_run_report
from eseg_ros.evaluation.run_folder import FRAMES_FILE, REPORT_FILE, SUMMARY_FILE, RunFolder, open_run
from eseg_ros.evaluation.sequences import FrameSequence
from eseg_ros.evaluation.summary import summarize
from eseg_ros.evaluation.workers import ProcessPool, Work, WorkerLostError, do_all

PICTURES = 120
"""Frames of a run that are kept as pictures, besides the worst."""
GPU_RUNTIMES = ("tensorrt", "rtx")
"""Runtimes of which a worker on a cluster takes a GPU."""
_LEAST_PICTURES = 4
"""Frames of a sequence that are kept as pictures, however many sequences there are."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is evaluated, for run.json and for people.

    Attributes:
        data: in words, e.g. "camvid/val" or "3 bags".
        truth: "labels", "reference" or None.
        options: what else tells this source from another one: topics, limits.
    """

    data: str
    truth: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """Who does the work.

    Attributes:
        processes: on this machine; 1 works in this process. With Ray at most so many workers; 0: all it can have.
        ray: whether to use a Ray cluster.
        ray_address: which; None for Ray's own default.
    """

    processes: int = 1
    ray: bool = False
    ray_address: str | None = None


def evaluate_run(
    sequences: Sequence[FrameSequence],
    source: Source,
    settings: Settings,
    out: Path,
    *,
    spread: Spread | None = None,
    resampling: Resampling | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Evaluate every sequence that is not finished yet; write frames.csv, summary.json and report.html.

    Args:
        sequences: on what; at least one.
        source: the same in words.
        settings: how. `pictures` are those of the whole run, and are shared out here.
        out: the run's folder, new or of the same run, which then goes on.
        spread: who does it; None: this process.
        resampling: of the intervals; None: 1000 resamples of single frames.
        command: what repeats the run, for the report.

    Returns:
        The contents of summary.json. Its `failed` names the sequences that could not be evaluated and why; a later
        call tries them again.

    Raises:
        EsegError: the engine cannot be used, the folder holds another run, or no sequence could be evaluated.
    """
    spread = spread or Spread()
    with open_run(out, request_of(source, settings), sequences) as run:
        todo = [sequence for sequence in sequences if not run.is_finished(sequence.name)]
        if len(todo) < len(sequences):
            print(f"{out}: {len(sequences) - len(todo)} of {len(sequences)} sequences are finished already")
        shared = _share_out(settings, sequences, spread)
        results = _do_all(todo, shared, run, spread)
        failed = {sequence.name: error for sequence, error in results if error is not None}
        finished = [sequence.name for sequence in sequences if run.is_finished(sequence.name)]
        if not finished:
            raise EsegError(next(iter(failed.values())))
        return finish_run(run, finished, source, settings, resampling or Resampling(), failed=failed, command=command)


def finish_run(
    run: RunFolder,
    names: Sequence[str],
    source: Source,
    settings: Settings,
    resampling: Resampling,
    *,
    failed: Mapping[str, str] | None = None,
    command: str = "",
    video: Path | None = None,
) -> dict[str, Any]:
    """Write frames.csv, the report and, last of all, summary.json of finished sequences.

    Args:
        run: where they are.
        names: of the sequences, at least one.
        source, settings, resampling, command: see `evaluate_run`.
        failed: sequence -> why it could not be evaluated.
        video: for the report; None for none.

    Returns:
        The contents of summary.json.

    Raises:
        EsegError: there are no frames at all.
    """
    manifest, record = load_engine(settings.engine).manifest, run.record(names)
    if not len(record):
        raise EsegError(f"{', '.join(names)}: there are no frames; is the topic the right one?")
    summary = {
        **_header(manifest, source, settings, record),
        **summarize(record, manifest.classes.names, resampling),
        "failed": dict(failed or {}),
        "command": command,
    }
    lines = csv_lines(record, manifest.classes.names)
    write_atomically(run.path / FRAMES_FILE, "".join(f"{line}\n" for line in lines).encode())
    write_run_report(run.path / REPORT_FILE, run, summary, record, manifest.classes, video)
    write_atomically(run.path / SUMMARY_FILE, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _do_all(
    todo: Sequence[FrameSequence], settings: Settings, run: RunFolder, spread: Spread
) -> Iterator[tuple[FrameSequence, str | None]]:
    """Each sequence with what went wrong, or None."""
    factory = partial(_working, settings, run)
    if not todo:
        return
    if not spread.ray and (spread.processes == 1 or len(todo) == 1):
        with factory() as work:
            yield from ((sequence, work(sequence)) for sequence in todo)
        return
    most = min(spread.processes or len(todo), len(todo))
    gpus = int(settings.runtime in GPU_RUNTIMES)
    with (
        RayPool(factory, spread.ray_address, most, gpus) if spread.ray else ProcessPool(factory, most) as pool,
        tqdm(total=len(todo), desc=f"{pool.size} workers", unit="sequence") as bar,
    ):
        for sequence, result in do_all(todo, pool):
            bar.update()
            yield sequence, f"its workers died: {result}" if isinstance(result, WorkerLostError) else result


@contextmanager
def _working(settings: Settings, run: RunFolder) -> Iterator[Work]:
    """A worker: an engine that is loaded once, and what it does to a sequence."""
    with Evaluator(settings) as evaluator:

        def work(sequence: FrameSequence) -> str | None:
            """Evaluate and store a sequence; returns what is wrong with it."""
            try:
                run.store(sequence.name, lambda folder: evaluator.evaluate(sequence, folder))
            except DeviceError:
                raise  # not the sequence's fault
            except EsegError as error:
                return str(error)
            return None

        yield work


def _share_out(settings: Settings, sequences: Sequence[FrameSequence], spread: Spread) -> Settings:
    """The settings of one worker."""
    several = spread.ray or spread.processes > 1
    threads = settings.threads
    if several and not threads:
        threads = 1 if spread.ray else max(1, len(os.sched_getaffinity(0)) // spread.processes)
    pictures = settings.pictures and max(_LEAST_PICTURES, settings.pictures // len(sequences))
    return replace(settings, threads=threads, pictures=pictures, progress=settings.progress and not several)


def request_of(source: Source, settings: Settings) -> dict[str, Any]:
    """What makes a run this run and no other, as JSON values."""
    manifest = load_engine(settings.engine).manifest
    reference = settings.reference and load_engine(settings.reference).manifest.onnx_sha256
    request = {
        "engine": manifest.name,
        "engine_sha256": manifest.onnx_sha256,
        "mode": mode_of(settings),
        "rate": settings.rate,
        "runtime": settings.runtime,
        "reference_sha256": reference,
        "data": source.data,
        **source.options,
        "measures": asdict(settings.measures),
        "pictures": settings.pictures,
        "masks": settings.masks,
        "classes": asdict(manifest.classes),
    }
    values: dict[str, Any] = json.loads(json.dumps(request))
    return values


def _header(manifest: EngineManifest, source: Source, settings: Settings, record: Record) -> dict[str, Any]:
    reference = settings.reference and load_engine(settings.reference).manifest.name
    return {
        **engine_header(manifest, record),
        "mode": mode_of(settings),
        "truth": f"masks of {reference}" if reference else source.truth,
        "data": source.data,
        **source.options,
    }


def engine_header(manifest: EngineManifest, record: Record) -> dict[str, Any]:
    """What ran where, for a summary."""
    return {
        "engine": manifest.name,
        "engine_sha256": manifest.onnx_sha256,
        "precision": manifest.precision,
        "runtime": _told(record, "runtime"),
        "device": _told(record, "device"),
        "machine": _told(record, "machine"),
        "version": __version__,
    }


def mode_of(settings: Settings) -> str:
    """The mode in words."""
    return "live" if settings.live else "every frame"


def _told(record: Record, key: str) -> str:
    """What the sequences' runs said, each answer once."""
    facts = (record.facts[name].get(key) for name in record.sequences)
    return ", ".join(dict.fromkeys(str(fact) for fact in facts if fact is not None))
