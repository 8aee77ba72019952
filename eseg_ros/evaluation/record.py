"""What an evaluation knows of every frame: enough for any score, interval or comparison later, without a re-run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import write_atomically
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.metrics import Floats, PixelCounts, mean_known

STAGES = ("preprocess_ms", "inference_ms", "postprocess_ms")


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame. What was not measured is NaN, None or empty.

    Attributes:
        name: `LabeledFrame.name`.
        index: its place in the sequence, from 0.
        stamp_ns: nanoseconds.
        answered: whether a mask came.
        confusion: (C, C + 1) pixel counts; None without ground truth.
        boundary: (C,) boundary F1; None if it was not measured.
        temporal: share of steady pixels since the frame before.
        confidence: mean of the winning class's probability.
        unsure: share of the pixels whose winning class has a probability below one half.
        stages_ms: preprocess, inference, postprocess.
        latency_ms: live from publication to the mask's arrival, else the sum of the stages.
    """

    name: str
    index: int
    stamp_ns: int
    answered: bool
    confusion: npt.NDArray[np.int64] | None = None
    boundary: Floats | None = None
    temporal: float = np.nan
    confidence: float = np.nan
    unsure: float = np.nan
    stages_ms: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    latency_ms: float = np.nan

    def quality(self) -> float:
        """`Record.quality` of this frame."""
        if self.confusion is not None:
            return float(PixelCounts.of(self.confusion).miou())
        return self.confidence if np.isnan(self.temporal) else self.temporal


@dataclass(frozen=True, slots=True)
class Record:
    """The frames of one or several sequences, an array each; F frames, C classes.

    Attributes:
        sequence: (F,) names.
        name: (F,) names of the frames.
        index, stamp_ns: (F,) int64.
        answered: (F,) bool.
        confusion: (F, C, C + 1) uint32; all zero without ground truth.
        boundary: (F, C) boundary F1.
        temporal, confidence, unsure, latency_ms: (F,).
        stages_ms: (F, 3).
        facts: of the sequences, by name: what else is known of a run over them, e.g. drops by reason.
    """

    sequence: npt.NDArray[np.str_]
    name: npt.NDArray[np.str_]
    index: npt.NDArray[np.int64]
    stamp_ns: npt.NDArray[np.int64]
    answered: npt.NDArray[np.bool_]
    confusion: npt.NDArray[np.uint32]
    boundary: Floats
    temporal: Floats
    confidence: Floats
    unsure: Floats
    latency_ms: Floats
    stages_ms: Floats
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.name)

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(F,) whether the frame has a mask and labelled pixels."""
        scored: npt.NDArray[np.bool_] = self.answered & (self.confusion.sum(axis=(1, 2), dtype=np.int64) > 0)
        return scored

    @property
    def sequences(self) -> list[str]:
        """The names, in order."""
        return list(dict.fromkeys(self.sequence.tolist()))

    def select(self, frames: npt.NDArray[Any]) -> Record:
        """The frames that a mask or an array of positions picks."""
        return Record(**{name: getattr(self, name)[frames] for name in _ARRAYS}, facts=self.facts)

    def quality(self) -> Floats:
        """One number a frame by which the bad ones are found, (F,), 0 to 1.

        With ground truth the mean IoU over the frame's classes; else the share of steady pixels; else the confidence.
        """
        for values in (self.frame_scores()["miou"], self.temporal, self.confidence):
            if not np.isnan(values).all():
                return values
        return np.full(len(self), np.nan)

    def frame_scores(self) -> dict[str, Floats]:
        """The scores of each frame alone, (F,), by name."""
        counts = PixelCounts.of(self.confusion)
        return {
            "miou": counts.miou(),
            "pixel_accuracy": counts.pixel_accuracy(),
            "frequency_weighted_iou": counts.frequency_weighted_iou(),
            "boundary_f": mean_known(self.boundary),
            "temporal_consistency": self.temporal,
            "confidence": self.confidence,
            "unsure_share": self.unsure,
        }

    def save(self, path: Path) -> None:
        """Write everything into one compressed .npz file."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(buffer, facts=np.array(json.dumps(dict(self.facts))), **arrays)
        write_atomically(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> Record:
        """Read what `save` wrote.

        Raises:
            EsegError: the file is missing, cut or foreign.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Record(**{name: arrays[name] for name in _ARRAYS}, facts=json.loads(str(arrays["facts"])))
        except Exception as error:  # a cut archive makes NumPy and zipfile fail in many ways
            raise EsegError(
                f"{path} cannot be read ({type(error).__name__}: {error}); remove its folder and evaluate again: only "
                "that sequence is computed anew"
            ) from error

    @staticmethod
    def of(sequence: str, frames: Sequence[FrameScore], num_classes: int, facts: Mapping[str, Any]) -> Record:
        """The record of one sequence."""
        no_counts = np.zeros((num_classes, num_classes + 1), np.int64)
        no_scores = np.full(num_classes, np.nan)
        shape = (len(frames), num_classes)
        confusion = [no_counts if frame.confusion is None else frame.confusion for frame in frames]
        boundary = [no_scores if frame.boundary is None else frame.boundary for frame in frames]
        return Record(
            sequence=np.array([sequence] * len(frames), np.str_),
            name=np.array([frame.name for frame in frames], np.str_),
            index=np.array([frame.index for frame in frames], np.int64),
            stamp_ns=np.array([frame.stamp_ns for frame in frames], np.int64),
            answered=np.array([frame.answered for frame in frames], np.bool_),
            confusion=np.array(confusion, np.uint32).reshape(*shape, num_classes + 1),
            boundary=np.array(boundary, np.float64).reshape(shape),
            temporal=np.array([frame.temporal for frame in frames], np.float64),
            confidence=np.array([frame.confidence for frame in frames], np.float64),
            unsure=np.array([frame.unsure for frame in frames], np.float64),
            latency_ms=np.array([frame.latency_ms for frame in frames], np.float64),
            stages_ms=np.array([frame.stages_ms for frame in frames], np.float64).reshape(-1, len(STAGES)),
            facts={sequence: dict(facts)},
        )

    @staticmethod
    def join(records: Sequence[Record]) -> Record:
        """Records one after another; at least one."""
        facts = {name: values for record in records for name, values in record.facts.items()}
        arrays = {name: np.concatenate([getattr(record, name) for record in records]) for name in _ARRAYS}
        return Record(**arrays, facts=facts)


_ARRAYS = tuple(name for name in Record.__dataclass_fields__ if name != "facts")


def csv_lines(record: Record, class_names: Sequence[str]) -> Iterator[str]:
    """A table of the frames as CSV, a line each after the head; scores as shares, durations in milliseconds."""
    scores = record.frame_scores()
    iou = PixelCounts.of(record.confusion).iou()
    columns: dict[str, npt.NDArray[Any]] = {
        "sequence": record.sequence,
        "frame": record.name,
        "index": record.index,
        "stamp_ns": record.stamp_ns,
        "answered": record.answered.astype(np.int64),
        **scores,
        **{f"iou.{name}": iou[:, class_id] for class_id, name in enumerate(class_names)},
        **{stage: record.stages_ms[:, place] for place, stage in enumerate(STAGES)},
        "latency_ms": record.latency_ms,
    }
    yield ",".join(_cell(name) for name in columns)
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield ",".join(_cell(value) for value in row)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n') else text
