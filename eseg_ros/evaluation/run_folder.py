"""A run on disk: what was asked for, and the sequences that are finished.

    RUN/run.json                        what was asked for
    RUN/sequences/NAME/frames.npz       `Record` of a finished sequence; beside it pictures/, masks/, live/
    RUN/frames.csv summary.json report.html

A sequence's folder appears under its name only when it is complete, by one rename: whoever evaluates it, and however
often a worker dies, it is there whole or not at all, and it is there once.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eseg_ros.engine.manifest import write_atomically
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.evaluator import PICTURES
from eseg_ros.evaluation.pictures import stored_pictures
from eseg_ros.evaluation.record import Record
from eseg_ros.evaluation.sequences import FrameSequence
from eseg_ros.labels import ClassSet

SCHEMA_VERSION = 1
RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
FRAMES_FILE = "frames.csv"
REPORT_FILE = "report.html"
_RECORD_FILE = "frames.npz"


class RunError(EsegError):
    """A run's folder cannot be used; the message says what it holds."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's place on disk; a plain value that can be sent to another process that sees the same file system."""

    path: Path

    def sequence_folder(self, name: str) -> Path:
        """Where a finished sequence lies."""
        return self.path / "sequences" / quote(name, safe=" ")

    def is_finished(self, name: str) -> bool:
        """Whether a sequence was evaluated completely."""
        return (self.sequence_folder(name) / _RECORD_FILE).is_file()

    def store(self, name: str, evaluate: Callable[[Path], Record]) -> None:
        """Evaluate a sequence into a folder of its own and, once it is complete, put that in its place.

        Where that fails, the folder stays for whoever looks for the reason, until the run goes on (`open_run`).

        Args:
            name: the sequence's.
            evaluate: makes the record; may write more into the folder that it is given.
        """
        place = self.sequence_folder(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        folder.chmod(0o755)
        evaluate(folder).save(folder / _RECORD_FILE)
        try:
            folder.rename(place)
        except OSError:
            if not self.is_finished(name):
                raise
            shutil.rmtree(folder)  # another worker, thought dead, was faster

    def record(self, names: Sequence[str]) -> Record:
        """The frames of finished sequences, in this order.

        Raises:
            EsegError: a record cannot be read.
        """
        return Record.join([Record.load(self.sequence_folder(name) / _RECORD_FILE) for name in names])

    def pictures(self, name: str) -> dict[int, dict[str, Path]]:
        """The pictures of a finished sequence: index -> layer -> file."""
        return stored_pictures(self.sequence_folder(name) / PICTURES)


@contextmanager
def open_run(path: Path, request: Mapping[str, Any], sequences: Sequence[FrameSequence]) -> Iterator[RunFolder]:
    """Begin a run, or go on with one that was interrupted; no other process can meanwhile.

    Args:
        path: its folder, new or of a run with the same request.
        request: what is evaluated and how, as JSON values.
        sequences: on what. Finished ones stay as they are.

    Raises:
        RunError: the folder holds something else, a sequence changed since, or another process works in it.
    """
    request = {"schema": SCHEMA_VERSION, **request}
    sizes = {sequence.name: sequence.size_bytes for sequence in sequences}
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another eseg evaluate works in {path}; wait for it or choose another --out") from error
        run = RunFolder(path.resolve())  # workers may begin elsewhere
        if (path / RUN_FILE).exists():
            _expect_same(path, request, sizes)
        for rest in (path / "sequences").glob(".*"):  # of workers that failed or died
            shutil.rmtree(rest)
        stored = {**request, "sequences": sizes}
        write_atomically(path / RUN_FILE, (json.dumps(stored, indent=2) + "\n").encode())
        yield run


def _expect_same(path: Path, request: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    stored = _read_json(path / RUN_FILE)
    before = stored.pop("sequences", {})
    different = [key for key in {**stored, **request} if stored.get(key) != request.get(key)]
    if different:
        key = different[0]
        raise RunError(
            f"{path} holds a run with {key} {stored.get(key)!r}, and {request.get(key)!r} was asked for now; choose "
            f"another --out, or remove it: rm -r {path}"
        )
    changed = [name for name, size in sizes.items() if before.get(name, size) != size]
    if changed:
        raise RunError(
            f"{changed[0]} has {sizes[changed[0]]} bytes; it had {before[changed[0]]} when the run in {path} began. "
            f"Choose another --out, or remove it: rm -r {path}"
        )


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that was read back.

    Attributes:
        folder: where it lies.
        summary: the contents of summary.json.
        classes: names and colors.
        record: all its frames.
    """

    folder: RunFolder
    summary: dict[str, Any]
    classes: ClassSet
    record: Record


def load_run(path: Path) -> FinishedRun:
    """Read a run that `eseg evaluate --out` made.

    Raises:
        RunError: no run there, or it is not finished.
        EsegError: a record cannot be read.
    """
    if not (path / SUMMARY_FILE).is_file():
        raise RunError(
            f"{path} holds no finished run; make one: eseg evaluate --engine ENGINE.json --bag BAG --out {path}"
        )
    summary = _read_json(path / SUMMARY_FILE)
    classes = _read_json(path / RUN_FILE)["classes"]
    palette = tuple((int(r), int(g), int(b)) for r, g, b in classes["palette"])
    folder = RunFolder(path)
    record = folder.record([sequence["name"] for sequence in summary["sequences"]])
    return FinishedRun(
        folder, summary, ClassSet(classes["name"], tuple(classes["names"]), palette, classes["ignore_id"]), record
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove the run and evaluate again") from error
    return values
