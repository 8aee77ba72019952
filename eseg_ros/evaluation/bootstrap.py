"""Scores of a record with confidence intervals, and differences of two records, by the bootstrap.

Every score is a function of how often each frame counts. With a weight of 1 a frame it is the score itself; with the
weights of resamples, drawn with replacement, it is the score's distribution (Efron 1979). So the whole bootstrap is a
few matrix products over the frames' pixel counts, and no frame is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eseg_ros.evaluation.metrics import Floats, PixelCounts, mean_known
from eseg_ros.evaluation.record import Record

LEVEL = 0.95
REPLICATES = 1000
SEED = 0
LATENCY_PERCENTILES = {"latency_ms.p50": 0.50, "latency_ms.p95": 0.95, "latency_ms.p99": 0.99}
_CHUNK = 1 << 22  # weights at a time, 32 MiB


@dataclass(frozen=True, slots=True)
class Resampling:
    """How frames are resampled.

    Attributes:
        replicates: how often; 0 for no intervals.
        block: frames of a sequence that are drawn together. Frames that follow each other resemble each other, so
            single frames (1) make the interval too narrow for a claim about other drives.
        seed: of the random numbers.
    """

    replicates: int = REPLICATES
    block: int = 1
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score, or a difference, with its interval; NaN where it does not exist.

    Attributes:
        value: of all frames.
        low, high: ends of the 95 % interval.
    """

    value: float
    low: float
    high: float

    def numbers(self) -> tuple[float, float, float]:
        """Value and ends."""
        return self.value, self.low, self.high


class Scores:
    """The scores of a record as a function of the frames' weights.

    Attributes:
        names: of the scores: miou, pixel_accuracy, frequency_weighted_iou, boundary_f, temporal_consistency,
            confidence, unsure_share, iou.CLASS, boundary_f.CLASS, latency_ms.p50 and so on.
    """

    def __init__(self, record: Record, class_names: Sequence[str]) -> None:
        self._counts = PixelCounts.of(record.confusion)
        self._boundary = record.boundary
        self._means = np.stack([record.temporal, record.confidence, record.unsure], axis=1)
        self._latency_ms = record.latency_ms
        self.names = (
            *("miou", "pixel_accuracy", "frequency_weighted_iou", "boundary_f"),
            *("temporal_consistency", "confidence", "unsure_share"),
            *(f"iou.{name}" for name in class_names),
            *(f"boundary_f.{name}" for name in class_names),
            *LATENCY_PERCENTILES,
        )

    def __call__(self, weights: Floats) -> Floats:
        """The scores, (R, names), for R sets of weights, (R, F)."""
        counts = PixelCounts(
            weights @ self._counts.hits, weights @ self._counts.truth, weights @ self._counts.predicted
        )
        boundary = _weighted_means(weights, self._boundary)
        whole = [counts.miou(), counts.pixel_accuracy(), counts.frequency_weighted_iou(), mean_known(boundary)]
        return np.concatenate(
            [
                np.stack(whole, axis=1),
                _weighted_means(weights, self._means),
                counts.iou(),
                boundary,
                _weighted_percentiles(weights, self._latency_ms, list(LATENCY_PERCENTILES.values())),
            ],
            axis=1,
        )


def estimates(record: Record, class_names: Sequence[str], resampling: Resampling) -> dict[str, Estimate]:
    """Every score of a record that exists, with its interval."""
    scores = Scores(record, class_names)
    return _estimate(scores, scores.names, record, resampling)


def differences(
    first: Record, second: Record, class_names: Sequence[str], resampling: Resampling
) -> dict[str, Estimate]:
    """Every score of `second` less that of `first`, with its interval.

    Args:
        first, second: of the same frames in the same order; both are resampled alike, so that what is hard about a
            frame for both cancels out (paired bootstrap).
        class_names: the classes.
        resampling: how.
    """
    before, after = Scores(first, class_names), Scores(second, class_names)
    return _estimate(lambda weights: after(weights) - before(weights), before.names, first, resampling)


def _estimate(
    scores: Callable[[Floats], Floats], names: Sequence[str], record: Record, resampling: Resampling
) -> dict[str, Estimate]:
    if not len(record):
        return {}
    values = scores(np.ones((1, len(record))))[0]
    low = high = np.full(len(names), np.nan)
    if resampling.replicates:
        drawn = np.concatenate([scores(weights) for weights in _weights(record, resampling)])
        low, high = _interval(drawn)
    return {
        name: Estimate(*numbers)
        for name, *numbers in zip(names, values.tolist(), low.tolist(), high.tolist(), strict=True)
        if not np.isnan(numbers[0])
    }


def _interval(drawn: Floats) -> tuple[Floats, Floats]:
    """Percentile interval of each column, over the replicates in which the score exists."""
    tail = 100 * (1 - LEVEL) / 2
    existing = ~np.isnan(drawn).all(axis=0)
    low, high = np.full((2, drawn.shape[1]), np.nan)
    low[existing], high[existing] = np.nanpercentile(drawn[:, existing], [tail, 100 - tail], axis=0)
    return low, high


def _weights(record: Record, resampling: Resampling) -> Iterator[Floats]:
    """How often each frame was drawn, (R, F), some replicates at a time."""
    block_of = _blocks(record, resampling.block)
    blocks = int(block_of[-1]) + 1
    rng = np.random.default_rng(resampling.seed)
    chunk = max(1, _CHUNK // len(record))
    for start in range(0, resampling.replicates, chunk):
        count = min(chunk, resampling.replicates - start)
        drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=count)
        yield drawn[:, block_of].astype(np.float64)


def _blocks(record: Record, length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(F,) number of the block that each frame belongs to: `length` frames of one sequence in a row."""
    sequence_begins = np.r_[True, record.sequence[1:] != record.sequence[:-1]]
    first = np.maximum.accumulate(np.where(sequence_begins, np.arange(len(record)), 0))
    block_begins = (np.arange(len(record)) - first) % length == 0
    return np.cumsum(block_begins) - 1


def _weighted_means(weights: Floats, values: Floats) -> Floats:
    """Means of columns, (F, K), by weights, (R, F), over the values that exist. (R, K)."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    return means


def _weighted_percentiles(weights: Floats, values: Floats, shares: Sequence[float]) -> Floats:
    """The least value at or below which each share of the weight lies, (R, shares)."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.full((len(weights), len(shares)), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    below = np.cumsum(weights[:, order], axis=1)
    places = [(below < share * below[:, -1:]).sum(axis=1) for share in shares]
    percentiles: Floats = values[order][np.minimum(np.stack(places, axis=1), len(order) - 1)]
    return percentiles
