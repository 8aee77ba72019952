"""A run in numbers: what stands in summary.json, on the terminal and on top of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eseg_ros.evaluation.bootstrap import LEVEL, Estimate, Resampling, estimates
from eseg_ros.evaluation.metrics import number
from eseg_ros.evaluation.record import STAGES, Record

SCORES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "boundary_f": "boundary F-score",
    "temporal_consistency": "temporal consistency",
    "confidence": "mean confidence",
    "unsure_share": "unsure pixels",
}
"""Scores of a whole run: key in summary.json -> words."""
NEITHER_IS_BETTER = ("confidence", "unsure_share")
"""An engine can be sure and wrong."""


def summarize(record: Record, class_names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Everything that the frames tell; a score that does not exist is None.

    Returns:
        frames (those with a score), frames_in, frames_published, frames_dropped, dropped; a key for each of SCORES;
        per_class_iou, per_class_boundary_f; intervals: score -> [low, high], 95 %; latency_ms, inference_ms, rate_hz,
        energy_j; confusion: classes, and pixels by true (row) and predicted class, the last column undecided;
        sequences: much of it for each.
    """
    found = estimates(record.select(record.answered), class_names, resampling)
    return {
        "frames": int(record.scored.sum()),
        **_counters(record),
        **{name: _value(found, name) for name in SCORES},
        "per_class_iou": _by_class(found, "iou", class_names),
        "per_class_boundary_f": _by_class(found, "boundary_f", class_names),
        "intervals": {name: _interval(estimate) for name, estimate in found.items() if not np.isnan(estimate.low)},
        "resampling": {
            "level": LEVEL,
            "replicates": resampling.replicates,
            "block": resampling.block,
            "seed": resampling.seed,
        },
        **_times(record, found),
        "confusion": {
            "classes": list(class_names),
            "pixels": record.confusion.sum(axis=0, dtype=np.int64).tolist(),
        },
        "sequences": [_sequence(record, name, class_names, resampling) for name in record.sequences],
    }


def _sequence(record: Record, name: str, class_names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    part = record.select(record.sequence == name)
    found = estimates(part.select(part.answered), class_names, resampling)
    return {
        "name": name,
        "frames": int(part.scored.sum()),
        **_counters(part),
        **{score: _value(found, score) for score in SCORES},
        "per_class_iou": _by_class(found, "iou", class_names),
        "intervals": {score: _interval(found[score]) for score in SCORES if score in found},
        **_times(part, found),
        **{key: value for key, value in part.facts[name].items() if key in ("runtime", "device", "image_size")},
    }


def _counters(record: Record) -> dict[str, Any]:
    """Frames in and out; in every-frame mode nothing but unusable images is dropped."""
    facts = [record.facts[name] for name in record.sequences]
    dropped: dict[str, int] = {}
    for reasons in (fact.get("dropped", {}) for fact in facts):
        for reason, count in reasons.items():
            dropped[reason] = dropped.get(reason, 0) + count
    answered = int(record.answered.sum())
    missing = len(record) - answered
    return {
        "frames_in": len(record),
        "frames_published": answered,
        "frames_dropped": missing,
        "dropped": dropped or ({"rejected": missing} if missing else {}),
    }


def _times(record: Record, found: Mapping[str, Estimate]) -> dict[str, Any]:
    """Durations, rate and energy."""
    facts = [record.facts[name] for name in record.sequences]
    latency_ms = record.latency_ms[~np.isnan(record.latency_ms)]
    stages = {
        stage.removesuffix("_ms"): _percentile(record.stages_ms[:, place], 50) for place, stage in enumerate(STAGES)
    }
    inference = stages["inference"]
    if inference is None:  # live: the node's own account
        told = [fact["inference_p50_ms"] for fact in facts if fact.get("inference_p50_ms") is not None]
        inference = round(float(np.median(told)), 3) if told else None
    rates = [fact["rate_hz"] for fact in facts if fact.get("rate_hz")]
    joules = [fact.get("energy_j") for fact in facts]
    return {
        "latency_ms": {
            **{share: _milliseconds(found, f"latency_ms.{share}") for share in ("p50", "p95", "p99")},
            "max": round(float(latency_ms.max()), 3) if len(latency_ms) else None,
        },
        "stages_ms": stages,
        "inference_ms": {"p50": inference},
        "rate_hz": _rate(rates, latency_ms),
        "energy_j": None if None in joules or not joules else round(float(sum(map(float, filter(None, joules)))), 3),
    }


def _rate(recorded: Sequence[float], latency_ms: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """Live the images a second by their stamps; else how many a second one after another would make."""
    if recorded:
        return round(float(np.mean(recorded)), 3)
    return round(1000 / float(latency_ms.mean()), 3) if len(latency_ms) and latency_ms.mean() > 0 else None


def _percentile(values: np.ndarray[Any, np.dtype[np.float64]], percent: float) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(np.percentile(known, percent)), 3) if len(known) else None


def _milliseconds(found: Mapping[str, Estimate], name: str) -> float | None:
    return round(found[name].value, 3) if name in found else None


def _value(found: Mapping[str, Estimate], name: str) -> float | None:
    return number(found[name].value) if name in found else None


def _interval(estimate: Estimate) -> list[float | None]:
    return [number(estimate.low), number(estimate.high)]


def _by_class(found: Mapping[str, Estimate], score: str, class_names: Sequence[str]) -> dict[str, float | None] | None:
    """None where no class has the score, which means that nothing was measured."""
    values = {name: _value(found, f"{score}.{name}") for name in class_names}
    return values if any(value is not None for value in values.values()) else None


def summary_text(summary: Mapping[str, Any]) -> str:
    """A summary for the terminal: a line a class, then the whole."""
    classes = summary["per_class_iou"] or {}
    intervals = summary["intervals"]
    width = max(len(name) for name in (*SCORES.values(), *classes))
    lines = [
        f"{summary['engine']} on {summary['data']}: {_frames(summary)}, {summary['runtime']} {summary['precision']}, "
        "IoU in %",
        *(f"{name:<{width}}  {_percent(iou)}{_range(intervals.get(f'iou.{name}'))}" for name, iou in classes.items()),
        "-" * (width + 7),
    ]
    for score, words in SCORES.items():
        if summary[score] is not None:
            lines.append(f"{words:<{width}}  {_percent(summary[score])}{_range(intervals.get(score))}")
    latency = ", ".join(f"{name} {ms:.1f}" for name, ms in summary["latency_ms"].items() if ms is not None)
    if latency:
        lines.append(f"{'latency (ms)':<{width}}  {latency}")
    return "\n".join(lines)


def _frames(summary: Mapping[str, Any]) -> str:
    dropped = f", {summary['frames_dropped']} dropped" if summary["frames_dropped"] else ""
    return f"{summary['frames_in']} frames{dropped}"


def _percent(score: float | None) -> str:
    return "    -" if score is None else f"{100 * score:5.1f}"


def _range(interval: Sequence[float | None] | None) -> str:
    if interval is None or None in interval:
        return ""
    low, high = (100 * (end or 0.0) for end in interval)
    return f"  [{low:.1f}, {high:.1f}]"
