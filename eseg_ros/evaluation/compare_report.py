"""The report of a comparison: what got better or worse, where, and how it looks in both runs."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eseg_ros.evaluation.bootstrap import LATENCY_PERCENTILES
from eseg_ros.evaluation.charts import bin_of_frame, binned, difference_bar, timeline_svg
from eseg_ros.evaluation.compare import Change, Comparison
from eseg_ros.evaluation.page import (
    ShownFrame,
    Viewer,
    class_html,
    gallery_html,
    rows_html,
    thin_out,
    tiles_html,
    viewer_html,
    write_page,
)
from eseg_ros.evaluation.report import apart, borders_of, quality_name
from eseg_ros.evaluation.run_folder import FinishedRun
from eseg_ros.evaluation.summary import SCORES

_GALLERY_FRAMES = 6
_FIRST = {"prediction": "first", "error": "error-first", "confidence": "confidence-first"}
_SECOND = {"prediction": "second", "error": "error-second", "confidence": "confidence-second"}
"""Layer of a run -> layer on this page; the page's script knows errors by how their names begin."""
_COLORS = {"better": "good", "worse": "warn", "no difference": "soft", "changed": "soft"}
_LATENCIES = {"latency_ms.p50": "median", "latency_ms.p95": "p95", "latency_ms.p99": "p99"}


def write_comparison_report(path: Path, comparison: Comparison) -> None:
    """Write a comparison's page."""
    frames, places = _shown_frames(comparison)
    shown = [at for at in comparison.most_changed() if at in places]
    most = [places[at] for at in apart(shown, comparison.before, _GALLERY_FRAMES)]
    words = _layer_words(comparison)
    layers = {layer: text for layer, text in words.items() if any(layer in frame.layers for frame in frames)}
    first_shown = most[0] if most else 0
    viewer = Viewer(layers, "first", "second", frames, first_shown)
    sections = [
        _verdict(comparison),
        tiles_html(_tiles(comparison)),
        _timeline(comparison, viewer),
        f"<h2>Scores (%)</h2>{_table(comparison.scores, SCORES)}",
        _classes(comparison),
        _sequences(comparison),
        _gallery(most, viewer),
        f"<h2>Latency (ms)</h2>{_table(comparison.scores, _LATENCIES)}",
        f"<h2>The runs</h2>{rows_html([*_facts('A', comparison.first), *_facts('B', comparison.second)])}",
    ]
    first, second = comparison.first.summary, comparison.second.summary
    title = f"{second['engine']} against {first['engine']}"
    if first["engine"] == second["engine"]:
        title = f"{comparison.second.folder.path.name} against {comparison.first.folder.path.name}"
    subtitle = (
        f"B, {comparison.second.folder.path.name}, against A, {comparison.first.folder.path.name}, on "
        f"{len(comparison.before)} frames that both made a mask of. Differences are B less A; a difference counts "
        "where its 95 % interval, by paired bootstrap over the frames, does not hold zero."
    )
    write_page(path, title, subtitle, sections, viewer)


def _shown_frames(comparison: Comparison) -> tuple[list[ShownFrame], dict[int, int]]:
    """The common frames with pictures of both runs, and where each stands among them."""
    before, changes = comparison.before, comparison.frame_changes()
    steps = bin_of_frame(len(before))
    names = before.sequences
    first = {name: comparison.first.folder.pictures(name) for name in names}
    second = {name: comparison.second.folder.pictures(name) for name in names}
    kept = [
        at
        for at in range(len(before))
        if int(before.index[at]) in first[str(before.sequence[at])]
        and int(comparison.after.index[at]) in second[str(before.sequence[at])]
    ]
    shown = set(kept)
    frames: list[ShownFrame] = []
    places: dict[int, int] = {}
    for at in thin_out(kept, [at for at in comparison.most_changed() if at in shown]):
        name = str(before.sequence[at])
        a, b = first[name][int(before.index[at])], second[name][int(comparison.after.index[at])]
        caption = f"{name}, " if len(names) > 1 else ""
        caption += f"frame {before.index[at]}"
        if not np.isnan(changes[at]):
            caption += f", {100 * changes[at]:+.1f} points"
        layers: dict[str, Path] = {layer: a[layer] for layer in ("camera", "truth") if layer in a}
        layers |= {_FIRST[layer]: file for layer, file in a.items() if layer in _FIRST}
        layers |= {_SECOND[layer]: file for layer, file in b.items() if layer in _SECOND}
        places[at] = len(frames)
        frames.append(ShownFrame(caption, int(steps[at]), layers))
    return frames, places


def _layer_words(comparison: Comparison) -> dict[str, str]:
    a, b = (f"{letter}: {run.summary['engine']}" for letter, run in zip("AB", _runs(comparison), strict=True))
    return {
        "camera": "camera",
        "truth": "truth",
        "first": a,
        "second": b,
        "error-first": "errors of A",
        "error-second": "errors of B",
        "confidence-first": "confidence of A",
        "confidence-second": "confidence of B",
    }


def _runs(comparison: Comparison) -> tuple[FinishedRun, FinishedRun]:
    return comparison.first, comparison.second


def _verdict(comparison: Comparison) -> str:
    change = comparison.scores[comparison.decisive]
    words = {"better": "B is better", "worse": "B is worse", "no difference": "No difference"}[comparison.verdict]
    return (
        f'<p class="card verdict"><b class="{_COLORS[comparison.verdict]}">{words}</b><br>'
        f"{SCORES[comparison.decisive]} {100 * change.before:.1f} → {100 * change.after:.1f}, "
        f"{_points(comparison.decisive, change)}</p>"
    )


def _tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    counts = dict.fromkeys(_COLORS, 0)
    for name, change in comparison.scores.items():
        if name.startswith("iou."):
            counts[change.verdict] += 1
    changes = comparison.frame_changes()
    dropped = [run.summary["frames_dropped"] for run in _runs(comparison)]
    return [
        ("classes better", f"{counts['better']}", f"{counts['no difference']} without a difference"),
        ("classes worse", f"{counts['worse']}", ""),
        ("frames better", f"{int((changes > 0).sum())}", f"of {len(changes)}"),
        ("frames worse", f"{int((changes < 0).sum())}", ""),
        ("frames dropped", f"{dropped[1]}", f"before {dropped[0]}"),
    ]


def _timeline(comparison: Comparison, viewer: Viewer) -> str:
    borders = borders_of(comparison.before)
    name = quality_name(comparison.first.summary).removesuffix(" (%)")
    qualities = {"A": comparison.before.quality(), "B": comparison.after.quality()}
    lines = {letter: 100 * binned(quality, "low") for letter, quality in qualities.items()}
    known = np.concatenate(list(lines.values()))
    scale = (float(np.nanmin(known)), float(np.nanmax(known)))
    both = "".join(
        f"<h3>{letter}: {html.escape(name)} (%)</h3>{timeline_svg(values, borders, scale)}"
        for letter, values in lines.items()
    )
    changes = comparison.frame_changes()
    extreme = binned(changes, "low")
    upper = binned(changes, "high")
    extreme = np.where(np.abs(upper) > np.abs(extreme), upper, extreme)
    drawn = f"<h3>B less A (points)</h3>{timeline_svg(100 * extreme, borders, (0.0, 0.0))}{both}"
    note = "A click shows the frame." if viewer.frames else "The runs kept no pictures of the same frames."
    return (
        f'<h2>Over time</h2><p class="soft">{note}</p><div class="split">'
        f'{viewer_html(viewer, comparison.first.classes)}<div class="card">{drawn}</div></div>'
    )


def _gallery(most: list[int], viewer: Viewer) -> str:
    if not most:
        return ""
    layers = [layer for layer in ("truth", "first", "second", "error-first", "error-second") if layer in viewer.layers]
    return "<h2>Frames that changed most</h2>" + gallery_html(most, layers, viewer)


def _classes(comparison: Comparison) -> str:
    classes = comparison.first.classes
    names = {f"iou.{name}": class_html(classes, name) for name in classes.names}
    table = _table(comparison.scores, names, markup=True)
    return f"<h2>IoU by class (%)</h2>{table}" if table else ""


def _sequences(comparison: Comparison) -> str:
    if len(comparison.sequences) < 2:
        return ""
    decisive = comparison.decisive
    changes = {name: scores[decisive] for name, scores in comparison.sequences.items() if decisive in scores}
    ordered = sorted(changes, key=lambda name: changes[name].difference.value)
    table = _table(changes, {name: name for name in ordered}, score=decisive)
    return f"<h2>{SCORES[decisive]} by sequence</h2>{table}"


def _table(
    changes: Mapping[str, Change], names: Mapping[str, str], *, markup: bool = False, score: str | None = None
) -> str:
    """Changes under the names that have one; `score` tells what they are changes of, where the names do not."""
    found = {name: changes[name] for name in names if name in changes}
    ends = [abs(number) for change in found.values() for number in change.difference.numbers()]
    limit = max([end for end in ends if not np.isnan(end)], default=0.0) or 1.0
    rows = ""
    for name, change in found.items():
        scale = 1 if name in LATENCY_PERCENTILES else 100
        difference = change.difference
        words = names[name] if markup else html.escape(names[name])
        rows += (
            f'<tr><td class="name">{words}</td><td class="number">{scale * change.before:.1f}</td>'
            f'<td class="number">{scale * change.after:.1f}</td>'
            f'<td class="wide">{difference_bar(difference.value, difference.low, difference.high, limit)}</td>'
            f'<td class="number">{_points(score or name, change)}</td>'
            f'<td class="{_COLORS[change.verdict]}">{change.verdict}</td></tr>'
        )
    if not rows:
        return ""
    return (
        '<div class="card scroll"><table><thead><tr><th></th><th class="number">A</th><th class="number">B</th>'
        f'<th></th><th class="number">B less A</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _points(score: str, change: Change) -> str:
    scale = 1 if score in LATENCY_PERCENTILES else 100
    difference = change.difference
    interval = ""
    if not np.isnan(difference.low):
        interval = f" [{scale * difference.low:+.1f}, {scale * difference.high:+.1f}]"
    return f"{scale * difference.value:+.1f}{interval}"


def _facts(letter: str, run: FinishedRun) -> list[tuple[str, str]]:
    summary = run.summary
    return [
        (letter, f"{run.folder.path}"),
        (f"{letter}: engine", f"{summary['engine']} ({summary['precision']}), {summary['runtime']}"),
        (f"{letter}: data", f"{summary['data']}, {summary['mode']}, {summary['frames_in']} frames"),
    ]
