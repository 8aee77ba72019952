"""Compares two runs over the frames that both have: better, worse, or no difference, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.bootstrap import LATENCY_PERCENTILES, Estimate, Resampling, Scores, differences
from eseg_ros.evaluation.metrics import number
from eseg_ros.evaluation.record import Record
from eseg_ros.evaluation.run_folder import FinishedRun
from eseg_ros.evaluation.summary import NEITHER_IS_BETTER, SCORES

CHANGED_LISTED = 20
"""Frames that are named as those that changed most."""
LOWER_IS_BETTER = tuple(LATENCY_PERCENTILES)


class CompareError(EsegError):
    """Two runs cannot be compared; the message says in what they differ."""


@dataclass(frozen=True, slots=True)
class Change:
    """A score in both runs. Scores are shares, latencies milliseconds.

    Attributes:
        before, after: of the first and of the second run, over their common frames.
        difference: after less before, with its interval.
        verdict: "better" or "worse" ("changed" for NEITHER_IS_BETTER), or "no difference" where the interval holds
            zero or there is none.
    """

    before: float
    after: float
    difference: Estimate
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one run to another.

    Attributes:
        first, second: the runs.
        before, after: their common frames, in the same order.
        scores: score -> change; names as in `Scores`.
        sequences: sequence -> score -> change, over the sequence's frames alone.
        decisive: the score that decides the verdict.
    """

    first: FinishedRun
    second: FinishedRun
    before: Record
    after: Record
    scores: Mapping[str, Change]
    sequences: Mapping[str, Mapping[str, Change]]
    decisive: str

    @property
    def verdict(self) -> str:
        """Of the second run against the first."""
        return self.scores[self.decisive].verdict

    def frame_changes(self) -> npt.NDArray[np.float64]:
        """Change of each common frame's `Record.quality`, (F,)."""
        return self.after.quality() - self.before.quality()

    def most_changed(self) -> list[int]:
        """Common frames, those that changed most first; frames that did not change are left out."""
        changes = np.abs(np.nan_to_num(self.frame_changes()))
        order = np.argsort(-changes, kind="stable")
        return [int(at) for at in order if changes[at] > 0]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; scores as shares, latencies in milliseconds."""
        changes = self.frame_changes()
        return {
            "first": _run_json(self.first),
            "second": _run_json(self.second),
            "common_frames": len(self.before),
            "decisive": self.decisive,
            "verdict": self.verdict,
            "scores": {name: _change_json(change) for name, change in self.scores.items()},
            "sequences": {
                sequence: {name: _change_json(change) for name, change in scores.items() if name in SCORES}
                for sequence, scores in self.sequences.items()
            },
            "changed_most": [
                {
                    "sequence": str(self.before.sequence[at]),
                    "frame": str(self.before.name[at]),
                    "index": int(self.before.index[at]),
                    "change": number(float(changes[at])),
                }
                for at in self.most_changed()[:CHANGED_LISTED]
            ],
        }


def compare_runs(first: FinishedRun, second: FinishedRun, resampling: Resampling) -> Comparison:
    """What changed from `first` to `second`.

    Raises:
        CompareError: the classes or the kinds of ground truth differ, or there are no common frames with a mask.
    """
    if first.classes.names != second.classes.names:
        raise CompareError(
            f"{first.folder.path} has the classes of {first.classes.name}, {second.folder.path} those of "
            f"{second.classes.name}; only runs with the same classes can be compared"
        )
    if first.summary["truth"] != second.summary["truth"]:
        raise CompareError(
            f"{first.folder.path} was scored against {_truth(first)}, {second.folder.path} against {_truth(second)}; "
            "evaluate one of them again with the other's options"
        )
    before, after = common_frames(first.record, second.record)
    if not len(before):
        raise CompareError(
            f"{first.folder.path} and {second.folder.path} have no frame in common that both made a mask of; "
            f"compare runs on the same data. Sequences: {_some(first)}; {_some(second)}"
        )
    names = first.classes.names
    scores = _changes(before, after, names, resampling)
    sequences = {
        name: _changes(before.select(before.sequence == name), after.select(after.sequence == name), names, resampling)
        for name in before.sequences
    }
    decisive = next((name for name in ("miou", "temporal_consistency") if name in scores), None)
    if decisive is None:
        raise CompareError(
            f"{first.folder.path} and {second.folder.path} share no score: neither ground truth nor temporal "
            "consistency was measured in both"
        )
    return Comparison(first, second, before, after, scores, sequences, decisive)


def common_frames(first: Record, second: Record) -> tuple[Record, Record]:
    """The frames that both have with a mask, in the same order; a frame is known by its sequence and its name."""
    first, second = first.select(first.answered), second.select(second.answered)
    places = {key: at for at, key in reversed(list(enumerate(_keys(second))))}
    pairs: dict[tuple[str, str], tuple[int, int]] = {}
    for at, key in enumerate(_keys(first)):
        if key in places:
            pairs.setdefault(key, (at, places[key]))  # of frames with the same stamp the first
    indices = np.array(list(pairs.values()), np.int64).reshape(-1, 2)
    return first.select(indices[:, 0]), second.select(indices[:, 1])


def _keys(record: Record) -> list[tuple[str, str]]:
    return list(zip(record.sequence.tolist(), record.name.tolist(), strict=True))


def _changes(before: Record, after: Record, names: tuple[str, ...], resampling: Resampling) -> dict[str, Change]:
    found = differences(before, after, names, resampling)
    ones = np.ones((1, len(before)))
    old, new = Scores(before, names), Scores(after, names)
    values = dict(zip(old.names, zip(old(ones)[0].tolist(), new(ones)[0].tolist(), strict=True), strict=True))
    return {name: Change(*values[name], estimate, verdict_of(name, estimate)) for name, estimate in found.items()}


def verdict_of(score: str, difference: Estimate) -> str:
    """A `Change.verdict`."""
    if not (difference.low > 0 or difference.high < 0):
        return "no difference"
    if score in NEITHER_IS_BETTER:
        return "changed"
    return "better" if (difference.low > 0) != (score in LOWER_IS_BETTER) else "worse"


def _run_json(run: FinishedRun) -> dict[str, Any]:
    keys = ("engine", "engine_sha256", "runtime", "precision", "mode", "data", "truth", "frames_in", "frames_dropped")
    return {"path": str(run.folder.path), **{key: run.summary[key] for key in keys}}


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "before": number(change.before),
        "after": number(change.after),
        "difference": number(change.difference.value),
        "interval": [number(change.difference.low), number(change.difference.high)],
        "verdict": change.verdict,
    }


def _truth(run: FinishedRun) -> str:
    return run.summary["truth"] or "nothing"


def _some(run: FinishedRun) -> str:
    names = run.record.sequences
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
