"""Scores frames, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eseg_ros.data.reading import DataError
from eseg_ros.evaluation.boundary import boundary_f
from eseg_ros.evaluation.metrics import count_pixels
from eseg_ros.evaluation.record import FrameScore
from eseg_ros.evaluation.temporal import TemporalConsistency
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.types import Frame, Image8

_HALF = 128
"""Confidence, 0 to 255, below which the winning class is less likely than all others together."""


@dataclass
class FrameView:
    """All that there is to see of one frame.

    Attributes:
        name: `LabeledFrame.name`.
        index: its place in the sequence, from 0.
        frame: the camera's.
        mask: (H, W) uint8, what the engine made of it; None if it made nothing.
        label: (H, W) uint8, what is right; None where nobody knows.
        label_source: what to name in errors about the label.
        confidence: (H, W) uint8, 255 = certain; None if it was not asked for.
        stages_ms: preprocess, inference, postprocess; NaN where nobody knows.
        latency_ms: `FrameScore.latency_ms`.
    """

    name: str
    index: int
    frame: Frame
    mask: Image8 | None
    label: Image8 | None
    label_source: str
    confidence: Image8 | None = None
    stages_ms: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    latency_ms: float = np.nan

    @cached_property
    def image(self) -> Image8:
        """(H, W, 3) uint8 BGR. Raises FrameError where the frame cannot be decoded."""
        return decode(self.frame)


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured besides pixel counts and times; each costs as much as a small engine.

    Attributes:
        boundary: the boundary F-score, where there is ground truth.
        temporal: steadiness over time; only where the frames are a film.
        confidence: the engine's own.
    """

    boundary: bool = True
    temporal: bool = True
    confidence: bool = True


def score_frames(
    views: Iterable[FrameView], classes: ClassSet, measures: Measures
) -> Iterator[tuple[FrameView, FrameScore]]:
    """Each view with its score, in order.

    Raises:
        DataError: a label has another size than its mask, or an id that is no class; the message names the file, or
            the bag and the stamp.
    """
    consistency = TemporalConsistency() if measures.temporal else None
    for view in views:
        yield view, _score(view, classes, measures, consistency)


def _score(
    view: FrameView, classes: ClassSet, measures: Measures, consistency: TemporalConsistency | None
) -> FrameScore:
    if view.mask is None:
        return FrameScore(view.name, view.index, view.frame.stamp_ns, answered=False)
    confusion = boundary = None
    if view.label is not None:
        try:
            confusion = count_pixels(view.mask, view.label, len(classes), classes.ignore_id)
        except ValueError as error:
            raise DataError(
                f"{view.label_source}: {error}. Labels must be class ids of the engine's class set, one for each of "
                "the frame's pixels"
            ) from error
        if measures.boundary:
            boundary = boundary_f(view.mask, view.label, len(classes), classes.ignore_id)
    return FrameScore(
        name=view.name,
        index=view.index,
        stamp_ns=view.frame.stamp_ns,
        answered=True,
        confusion=confusion,
        boundary=boundary,
        temporal=np.nan if consistency is None else consistency.update(view.image, view.mask),
        confidence=np.nan if view.confidence is None else float(view.confidence.mean() / 255),
        unsure=np.nan if view.confidence is None else float((view.confidence < _HALF).mean()),
        stages_ms=view.stages_ms,
        latency_ms=view.latency_ms,
    )
