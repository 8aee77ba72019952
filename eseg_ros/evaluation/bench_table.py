"""What `eseg bench` says on the terminal, and which engines it takes when none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eseg_ros.errors import UsageError
from eseg_ros.text_table import aligned_columns

DEFAULT_FOLDER = Path("engines")

_HEADER = ("runtime", "precision", "input", "camera", "pre", "infer", "post", "over", "p95", "ratio", "fps 1", "fps 2")


def default_engines(*, fitted: bool) -> list[Path]:
    """All of DEFAULT_FOLDER, or those that can be fitted to another size.

    Raises:
        UsageError: there is none.
    """
    from eseg_ros.engine.manifest import load_engine

    engines = sorted(DEFAULT_FOLDER.glob("*.json"))
    engines = [path for path in engines if not fitted or load_engine(path).manifest.precision == "fp32"]
    if not engines:
        raise UsageError(f"there is no engine in {DEFAULT_FOLDER.resolve()}; name one: --engine ENGINE.json")
    return engines


def bench_table(report: Mapping[str, Any]) -> str:
    """A report of `bench` as text, a line a configuration; medians, milliseconds."""
    rows = [("network", *_HEADER, "gain", "CPU", "MB", "mIoU")]
    for result in report["configurations"]:
        score = result["score"]
        rows.append(
            (
                *(result[key] for key in ("engine", "runtime", "precision", "input", "camera")),
                *(_median(result, f"{stage}_ms") for stage in ("preprocess", "inference", "postprocess")),
                _number(result["overhead"], ".1%"),
                _number(result.get("latency_ms", result["inference_ms"])["p95"], ".1f"),
                _number(result["ratio"], ".2f"),
                _number(result["fps_depth1"], ".1f"),
                _number(result["fps_depth2"], ".1f"),
                _number(result["depth2_gain"], ".2f"),
                _number(result["cpu_ms"], ".1f"),
                _number(result["memory_mb"], ".0f"),
                _number(score and score["miou"], ".4f"),
            )
        )
    data = report["scored"]
    alone = {result["engine"]: result["alone"] for result in report["configurations"] if result["alone"]}
    return "\n".join(
        [
            f"{report['machine']}; load before {report['load']:.1f}; {report['frames']} frames",
            *aligned_columns(rows, right=True),
            *(f"{name}: the inference alone; {reason}" for name, reason in alone.items()),
            "pre, infer, post: median ms a frame; over: (pre + post) / infer; p95: ms from submit to result; ratio:",
            "infer over the first line's; fps 1, fps 2: frames a second with one and two under way; gain: fps 2 / fps",
            "1; CPU: ms of all cores a frame; MB: the most memory held" + (f"; mIoU: on {data}" if data else ""),
        ]
    )


def _median(result: Mapping[str, Any], stage: str) -> str:
    return f"{result[stage]['median']:.2f}" if stage in result else "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
