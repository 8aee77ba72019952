"""The report of a run: what it scored, when and where, with pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eseg_ros.evaluation.charts import bar, bin_of_frame, binned, histogram_svg, milliseconds, timeline_svg
from eseg_ros.evaluation.live import DROPPED
from eseg_ros.evaluation.page import (
    ShownFrame,
    Viewer,
    class_html,
    data_url,
    gallery_html,
    interval_text,
    percent,
    rows_html,
    thin_out,
    tiles_html,
    viewer_html,
    write_page,
)
from eseg_ros.evaluation.record import Record
from eseg_ros.evaluation.run_folder import RunFolder
from eseg_ros.evaluation.summary import NEITHER_IS_BETTER, SCORES
from eseg_ros.labels import ClassSet

WORST_SHOWN = 6
"""Frames in the gallery."""
EMBEDDED_VIDEO_BYTES = 3_000_000
"""A video up to this size travels inside the page, a larger one lies beside it."""
_LAYERS = {
    "camera": "camera",
    "truth": "truth",
    "prediction": "prediction",
    "error": "errors",
    "confidence": "confidence",
}
_GALLERY = ("truth", "prediction", "error", "confidence")


def write_run_report(
    path: Path,
    run: RunFolder,
    summary: Mapping[str, Any],
    record: Record,
    classes: ClassSet,
    video: Path | None = None,
) -> None:
    """Write a run's page.

    Args:
        path: of the HTML file.
        run: has the pictures.
        summary: the contents of summary.json.
        record: the frames of the summary's sequences.
        classes: names and colors.
        video: to embed or to link; None for none.
    """
    quality = record.quality()
    frames, places = _shown_frames(run, record, quality)
    layers = {layer: words for layer, words in _LAYERS.items() if any(layer in frame.layers for frame in frames)}
    left = "truth" if "truth" in layers else "camera"
    ranked = np.argsort(quality, kind="stable")[: np.count_nonzero(~np.isnan(quality))]  # NaN come last
    shown = [at for at in ranked.tolist() if at in places]
    worst = [places[at] for at in apart(shown, record, WORST_SHOWN)]
    viewer = Viewer(layers, left, "prediction", frames, first=_first(frames))
    sections = [
        tiles_html(_tiles(summary)),
        _video(video) if video else "",
        _timeline(record, quality, viewer, classes, summary),
        f'<div class="columns"><section>{classes_html(summary, record, classes)}</section>'
        f"<section>{_latency(record, summary)}</section></div>",
        _gallery(worst, viewer, summary),
        _sequences(summary),
        confusion_html(summary, classes),
        f"<h2>What ran where</h2>{rows_html(_facts(summary))}",
    ]
    write_page(path, f"{summary['engine']} on {summary['data']}", _subtitle(summary), sections, viewer)


def _shown_frames(
    run: RunFolder, record: Record, quality: np.ndarray[Any, Any]
) -> tuple[list[ShownFrame], dict[int, int]]:
    """The frames with pictures, and where each frame of the record stands among them."""
    steps = bin_of_frame(len(record))
    pictures = {name: run.pictures(name) for name in record.sequences}
    begins = {name: int(record.stamp_ns[record.sequence == name][0]) for name in pictures}
    kept = [at for at in range(len(record)) if int(record.index[at]) in pictures[str(record.sequence[at])]]
    frames: list[ShownFrame] = []
    places: dict[int, int] = {}
    for at in thin_out(kept, sorted(kept, key=lambda at: (np.isnan(quality[at]), quality[at]))):
        name, index = str(record.sequence[at]), int(record.index[at])
        seconds = (int(record.stamp_ns[at]) - begins[name]) / 1e9
        caption = f"{name}, " if len(pictures) > 1 else ""
        caption += f"frame {index}, {seconds:.1f} s"
        if not np.isnan(quality[at]):
            caption += f", {100 * quality[at]:.1f} %"
        places[at] = len(frames)
        frames.append(ShownFrame(caption, int(steps[at]), pictures[name][index]))
    return frames, places


def apart(ranked: Sequence[int], record: Record, count: int) -> list[int]:
    """The first frames of a ranking that do not nearly follow each other: neighbors show the same scene."""
    sequences, lengths = np.unique(record.sequence, return_counts=True)
    gap = {str(name): int(length) / (3 * count) for name, length in zip(sequences, lengths, strict=True)}
    kept: list[int] = []
    for at in ranked:
        name = str(record.sequence[at])
        near = (name == record.sequence[k] and abs(int(record.index[at] - record.index[k])) < gap[name] for k in kept)
        if len(kept) < count and not any(near):
            kept.append(at)
    return kept


def _first(frames: Sequence[ShownFrame]) -> int:
    """The frame shown at first: from the middle, where drives have more to show than at their ends."""
    return len(frames) // 2


def _subtitle(summary: Mapping[str, Any]) -> str:
    mode = (
        "replayed over ROS 2 to the segmentation node, which runs in a process of its own"
        if summary["mode"] == "live"
        else "run through the node's pipeline, every one of them"
    )
    truth = {
        None: "There is no ground truth, so what is shown is how steady and how sure the masks are.",
        "labels": "Scores compare with labels.",
    }.get(summary["truth"], f"Scores are the agreement with the {summary['truth']}, which may be wrong too.")
    return f"{summary['frames_in']} images were {mode}; {summary['frames_published']} masks came back. {truth}"


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    intervals = summary["intervals"]
    tiles = [
        (words, f"{100 * summary[score]:.1f} %", interval_text(intervals.get(score)))
        for score, words in SCORES.items()
        if summary[score] is not None and (summary["truth"] is None or score not in NEITHER_IS_BETTER)
    ]
    latency = summary["latency_ms"]
    tiles.append(("latency, median", milliseconds(latency["p50"]), f"p99 {milliseconds(latency['p99'])}"))
    dropped = summary["frames_dropped"]
    tiles.append(("frames dropped", f"{dropped}", f"of {summary['frames_in']}"))
    if summary["energy_j"] is not None and summary["frames_published"]:
        joules = summary["energy_j"] / summary["frames_published"]
        tiles.append(("energy a mask", f"{joules:.2f} J", f"{summary['energy_j']:.0f} J in all"))
    return tiles


def _video(path: Path) -> str:
    source = data_url(path) if path.stat().st_size <= EMBEDDED_VIDEO_BYTES else path.name
    return (
        "<h2>The drive</h2>"
        f'<video controls muted loop playsinline preload="metadata" src="{html.escape(source)}"></video>'
        f'<p class="soft">Camera and published mask side by side, at the recorded pace (<code>{html.escape(path.name)}'
        "</code>). Frames that were dropped are left out.</p>"
    )


def _timeline(
    record: Record, quality: np.ndarray[Any, Any], viewer: Viewer, classes: ClassSet, summary: Mapping[str, Any]
) -> str:
    borders = borders_of(record)
    plots = [(quality_name(summary), 100 * binned(quality, "low"))]
    if summary["truth"] is not None:
        plots.append(("temporal consistency (%)", 100 * binned(record.temporal, "low")))
    plots.append(("latency (ms)", binned(record.latency_ms, "high")))
    drawn = "".join(
        f"<h3>{html.escape(name)}</h3>{svg}" for name, values in plots if (svg := timeline_svg(values, borders))
    )
    if not drawn:
        return ""
    note = "A click shows the frame." if viewer.frames else ""
    return (
        f'<h2>Over time</h2><p class="soft">{note}</p><div class="split">{viewer_html(viewer, classes)}'
        f'<div class="card">{drawn}</div></div>'
    )


def borders_of(record: Record) -> dict[int, str]:
    """Step of the time line -> name of the sequence that begins there."""
    steps = bin_of_frame(len(record))
    return {int(steps[np.flatnonzero(record.sequence == name)[0]]): name for name in record.sequences}


def quality_name(summary: Mapping[str, Any]) -> str:
    """What `Record.quality` is for this run."""
    if summary["truth"] is not None:
        return "mean IoU of the frame (%)"
    return "temporal consistency (%)" if summary["temporal_consistency"] is not None else "confidence (%)"


def _gallery(worst: Sequence[int], viewer: Viewer, summary: Mapping[str, Any]) -> str:
    if not worst:
        return ""
    layers = [layer for layer in ("camera", *_GALLERY) if layer in viewer.layers]
    if "truth" in layers:
        layers.remove("camera")  # it shows through the truth
    return (
        f'<h2>Worst frames</h2><p class="soft">By {html.escape(quality_name(summary).removesuffix(" (%)"))}. '
        "Red is wrong, gray has no label; confidence goes from violet (none) to yellow.</p>"
        + gallery_html(worst, layers, viewer)
    )


def classes_html(summary: Mapping[str, Any], record: Record, classes: ClassSet) -> str:
    """The class table; nothing without scores."""
    scores = summary["per_class_iou"]
    if not scores:
        return ""
    boundary = summary["per_class_boundary_f"]
    pixels = record.confusion.sum(axis=(0, 2), dtype=np.float64)
    shares = pixels / max(pixels.sum(), 1.0)
    rows = ""
    for name, share in zip(classes.names, shares.tolist(), strict=True):
        interval = summary["intervals"].get(f"iou.{name}", (None, None))
        rows += (
            f'<tr><td class="class">{class_html(classes, name)}</td>'
            f'<td class="wide">{bar(scores[name], *interval)}</td>'
            f'<td class="number">{percent(scores[name])}</td><td class="number soft">{interval_text(interval)}</td>'
            + (f'<td class="number">{percent(boundary[name])}</td>' if boundary else "")
            + f'<td class="number soft">{percent(share)}</td></tr>'
        )
    border = '<th class="number">border F</th>' if boundary else ""
    return (
        '<h2>Classes</h2><div class="card"><table><thead><tr><th>class</th><th></th><th class="number">IoU</th>'
        f'<th class="number">95 %</th>{border}<th class="number">pixels</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="soft">In percent. A class that never occurs in the truth has no '
        "score. The intervals are by bootstrap over the frames shown here: they say how sure the score of "
        "<em>these</em> drives is.</p>"
    )


def _latency(record: Record, summary: Mapping[str, Any]) -> str:
    live = summary["mode"] == "live"
    words = (
        "From right before an image is published to the arrival of its mask in the recorder, on one steady clock: two "
        "hops through DDS, the wait for the engine, preprocessing, inference and postprocessing."
        if live
        else "Preprocessing, inference and postprocessing, which here includes the confidence; nothing waits. Replay "
        "with --live for what a subscriber sees."
    )
    values = record.latency_ms[~np.isnan(record.latency_ms)].tolist()
    latency = [(name, milliseconds(value)) for name, value in summary["latency_ms"].items()]
    stages = [(f"{name}, median", milliseconds(ms)) for name, ms in summary["stages_ms"].items() if ms is not None]
    dropped = [(DROPPED[reason], f"{count}") for reason, count in summary["dropped"].items() if count]
    counters = [
        ("images", f"{summary['frames_in']}"),
        ("masks", f"{summary['frames_published']}"),
        *dropped,
        ("dropped in all", f"{summary['frames_dropped']}"),
    ]
    return (
        f'<h2>Latency</h2><div class="card">{histogram_svg(values)}</div><p class="soft">{words}</p>'
        f"{rows_html([*latency, *stages])}<h2>Where the frames went</h2>{rows_html(counters)}"
    )


def _sequences(summary: Mapping[str, Any]) -> str:
    """A table of the sequences, the worst first; nothing if there is but one."""
    sequences = summary["sequences"]
    if len(sequences) < 2:
        return ""
    score = next((name for name in SCORES if any(sequence[name] is not None for sequence in sequences)), "miou")
    ordered = sorted(sequences, key=lambda sequence: (sequence[score] is None, sequence[score]))
    rows = ""
    for sequence in ordered:
        interval = sequence["intervals"].get(score, (None, None))
        rows += (
            f'<tr><td class="name">{html.escape(sequence["name"])}</td>'
            f'<td class="wide">{bar(sequence[score], *interval)}</td>'
            f'<td class="number">{percent(sequence[score])}</td><td class="number soft">{interval_text(interval)}</td>'
            f'<td class="number">{sequence["frames_in"]}</td><td class="number">{sequence["frames_dropped"]}</td>'
            f'<td class="number">{milliseconds(sequence["latency_ms"]["p95"])}</td></tr>'
        )
    return (
        f'<h2>Sequences</h2><div class="card scroll"><table><thead><tr><th>sequence</th><th></th>'
        f'<th class="number">{SCORES[score]}</th><th class="number">95 %</th><th class="number">frames</th>'
        f'<th class="number">dropped</th><th class="number">latency p95</th></tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def confusion_html(summary: Mapping[str, Any], classes: ClassSet) -> str:
    """Where each class's pixels went; nothing without scores."""
    pixels = np.array(summary["confusion"]["pixels"], np.float64)
    occurring = np.flatnonzero(pixels.sum(axis=1))
    if not len(occurring):
        return ""
    columns = [*range(len(classes)), *([len(classes)] if pixels[:, -1].any() else [])]
    names = [*classes.names, "undecided"]
    heads = "".join(f"<th><span>{html.escape(names[column])}</span></th>" for column in columns)
    rows = ""
    for row in occurring.tolist():
        shares = pixels[row] / pixels[row].sum()
        cells = "".join(_confusion_cell(float(shares[column]), column == row) for column in columns)
        rows += f"<tr><th>{class_html(classes, names[row])}</th>{cells}</tr>"
    return (
        '<h2>Confusion</h2><div class="card confusion"><table>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="soft">What became of each class\'s pixels, in percent of the row.</p>'
    )


def _confusion_cell(share: float, right: bool) -> str:
    color = "var(--accent)" if right else "var(--warn)"
    shade = 100 * min(1.0, share * (0.6 if right else 1.6))
    text = f"{100 * share:.0f}" if share >= 0.005 else ""
    return f'<td style="background:color-mix(in srgb, {color} {shade:.0f}%, transparent)">{text}</td>'


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rate = summary["rate_hz"]
    facts = [
        ("engine", f"{summary['engine']} ({summary['precision']}), ONNX SHA-256 {summary['engine_sha256'][:12]}…"),
        ("runtime", f"{summary['runtime']} on {summary['device']}"),
        ("machine", summary["machine"]),
        ("data", summary["data"]),
        ("rate", "–" if rate is None else f"{rate:.3g} Hz" + (" recorded" if summary["mode"] == "live" else "")),
        ("eseg_ros", summary["version"]),
    ]
    facts += [("command", summary["command"])] if summary["command"] else []
    return facts + [(f"failed: {name}", error) for name, error in summary["failed"].items()]
