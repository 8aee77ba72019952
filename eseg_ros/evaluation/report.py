"""The report of a drive as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from eseg_ros.labels import ClassSet
from eseg_ros.runtime.types import Image8

JPEG_QUALITY = 88
# Larger panels than this only make the page heavy.
PANEL_WIDTH = 640
# A video up to this size travels inside the page, a larger one lies beside it.
EMBEDDED_VIDEO_BYTES = 3_000_000


@dataclass(frozen=True, slots=True)
class Panel:
    """One frame of the drive in pictures.

    Attributes:
        caption: which frame, and what is to say about it.
        camera: (H, W, 3) uint8 BGR, what the node saw.
        truth: the ground truth in the palette's colours, likewise; None if there is none.
        overlay: what the node made of it, likewise.
    """

    caption: str
    camera: Image8
    truth: Image8 | None
    overlay: Image8


@dataclass(frozen=True, slots=True)
class Report:
    """What the page shows.

    Attributes:
        title: one line.
        subtitle: one sentence on what was done.
        summary: the contents of summary.json.
        classes: names and colours.
        dropped: where frames got lost in words -> how many.
        class_shares: share of the drive's pixels that each class has in the truth, else in the masks.
        panels: some frames.
        panels_note: how they were chosen.
        latencies_ms: of every published frame.
        video: file to embed or to link; None for none.
    """

    title: str
    subtitle: str
    summary: Mapping[str, Any]
    classes: ClassSet
    dropped: Mapping[str, int]
    class_shares: Sequence[float]
    panels: Sequence[Panel]
    panels_note: str
    latencies_ms: Sequence[float]
    video: Path | None = None


def render_report(report: Report) -> str:
    """The page as HTML text."""
    template = Template(resources.files("eseg_ros.evaluation").joinpath("report.html").read_text(encoding="utf-8"))
    heads = ["camera", "ground truth", "what the node published"]
    if any(panel.truth is None for panel in report.panels):
        heads.remove("ground truth")
    return template.substitute(
        title=html.escape(report.title),
        subtitle=html.escape(report.subtitle),
        tiles=_tiles(report.summary),
        video=_video(report.video) if report.video else "",
        panels_note=html.escape(report.panels_note),
        legend="".join(f"<span>{_swatch(rgb)}{html.escape(n)}</span>" for n, rgb in _classes(report.classes)),
        columns=len(heads),
        heads="".join(f"<span>{head}</span>" for head in heads),
        panels="\n".join(_panel(panel) for panel in report.panels),
        scores=_scores(report),
        counters=_rows(_counters(report)),
        histogram=histogram_svg(report.latencies_ms),
        facts=_rows(_facts(report.summary)),
    )


def histogram_svg(values_ms: Sequence[float], bins: int = 36) -> str:
    """A histogram of durations with p50 and p95 marked, as an SVG element; a sentence where there are none."""
    if not values_ms:
        return "<p>No frame was published.</p>"
    values = np.asarray(values_ms, np.float64)
    # Outliers past twice the 95th percentile share the last bin, so that they do not squeeze the others.
    limit = min(float(values.max()), 2 * float(np.percentile(values, 95))) * 1.02
    counts, edges = np.histogram(np.minimum(values, limit * 0.999), bins=bins, range=(0.0, limit))
    width, height, base, top = 520.0, 190.0, 160.0, 26.0

    def x_of(value: float) -> float:
        return value / limit * width

    bars = "".join(
        f'<rect x="{x_of(left) + 0.5:.1f}" y="{base - (bar := (base - top) * count / counts.max()):.1f}" '
        f'width="{width / bins - 1:.1f}" height="{bar:.1f}"><title>{left:.0f} to {right:.0f} ms: {count}</title></rect>'
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    )
    ticks = "".join(
        f'<text x="{x_of(tick):.1f}" y="{base + 17:.0f}" text-anchor="middle">{tick:g}</text>'
        for tick in _ticks(limit)
        if width * 0.02 < x_of(tick) < width * 0.98
    )
    marks = ""
    for row, (name, percent) in enumerate((("p50", 50), ("p95", 95))):
        value = float(np.percentile(values, percent))
        x, y = x_of(value), 11 + 13 * row
        anchor, shift = ("end", -5) if x > width * 0.7 else ("start", 5)
        marks += (
            f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{base:.0f}"/>'
            f'<text class="mark" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{name} {_ms(value)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="histogram of the latency, milliseconds">'
        f'<g class="bars">{bars}</g><line class="axis" x1="0" x2="{width:.0f}" y1="{base:.0f}" y2="{base:.0f}"/>'
        f'{ticks}<text x="{width:.0f}" y="{height - 2:.0f}" text-anchor="end">milliseconds</text>{marks}</svg>'
    )


def _ticks(limit: float) -> list[float]:
    """Round values from 0 to `limit`, four to ten of them."""
    rough = limit / 5
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [float(value) for value in np.arange(0.0, limit, step)]


def _tiles(summary: Mapping[str, Any]) -> str:
    dropped = summary["frames_dropped"]
    tiles = [
        ("frames in", f"{summary['frames_in']}", ""),
        ("masks published", f"{summary['frames_published']}", ""),
        ("dropped", f"{dropped}", " warn" if dropped else ""),
        ("latency, median", _ms(summary["latency_ms"]["p50"]), ""),
        ("inference, median", _ms(summary["inference_ms"]["p50"]), ""),
    ]
    if summary["miou"] is not None:
        tiles[:0] = [
            ("mean IoU", f"{summary['miou']:.3f}", ""),
            ("pixel accuracy", f"{summary['pixel_accuracy']:.3f}", ""),
        ]
    return "".join(f'<div class="card tile{kind}"><b>{value}</b>{name}</div>' for name, value, kind in tiles)


def _video(path: Path) -> str:
    source = path.name
    if path.stat().st_size <= EMBEDDED_VIDEO_BYTES:
        source = f"data:video/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return (
        "<h2>The drive</h2>"
        f'<video controls muted loop playsinline preload="metadata" src="{html.escape(source)}"></video>'
        f'<p class="soft">Camera and published mask side by side, at the recorded pace (<code>{html.escape(path.name)}'
        "</code>). Frames that were dropped are left out.</p>"
    )


def _panel(panel: Panel) -> str:
    images = [("camera image", panel.camera), ("ground truth", panel.truth), ("overlay", panel.overlay)]
    tags = "".join(f'<img alt="{alt}" src="{_jpeg(image)}">' for alt, image in images if image is not None)
    caption = html.escape(panel.caption)
    return f'<figure><figcaption>{caption}</figcaption><div class="panels">{tags}</div></figure>'


def _jpeg(image: Image8) -> str:
    if image.shape[1] > PANEL_WIDTH:
        scale = PANEL_WIDTH / image.shape[1]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _classes(classes: ClassSet) -> list[tuple[str, tuple[int, int, int]]]:
    return list(zip(classes.names, classes.palette, strict=True))


def _swatch(rgb: tuple[int, int, int]) -> str:
    return f'<span class="swatch" style="background:rgb{rgb}"></span>'


def _scores(report: Report) -> str:
    """The class table: with ground truth each class's IoU, without it only how much of the drive it covers."""
    scores = report.summary["per_class_iou"]
    rows = []
    for (name, rgb), share in zip(_classes(report.classes), report.class_shares, strict=True):
        label = f"<td>{_swatch(rgb)}{html.escape(name)}</td>"
        value = scores[name] if scores else share
        number = "–" if value is None else f"{value:.3f}" if scores else f"{share:.1%}"
        bar = f'<td class="bar"><div style="width:{100 * (value or 0.0):.1f}%"></div></td>'
        part = f'<td class="number soft">{share:.1%}</td>' if scores else ""
        rows.append(f'<tr>{label}{bar}<td class="number">{number}</td>{part}</tr>')
    heads = '<th class="number">IoU</th><th class="number">of the pixels</th>'
    if not scores:
        heads = '<th class="number">of the pixels</th>'
    note = "A class that never occurs in the ground truth has no score." if scores else "No ground truth: no scores."
    return (
        f'<h2>Classes</h2><div class="card"><table><thead><tr><th>class</th><th></th>{heads}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="soft">{note}</p>'
    )


def _counters(report: Report) -> list[tuple[str, str]]:
    summary = report.summary
    return [
        ("images published by the player", f"{summary['frames_in']}"),
        ("masks published by the node", f"{summary['frames_published']}"),
        *((reason, f"{count}") for reason, count in report.dropped.items() if count),
        ("dropped in all", f"{summary['frames_dropped']}"),
    ]


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    latency = summary["latency_ms"]
    width, height = summary["image_size"]
    percentiles = ", ".join(f"{name} {_ms(value)}" for name, value in latency.items())
    return [
        ("latency", percentiles),
        ("engine", f"{summary['engine']} ({summary['precision']})"),
        ("runtime", f"{summary['runtime']} on {summary['device']}"),
        ("machine", summary["machine"]),
        ("bag", summary["bag"]),
        ("topic", f"{summary['topic']}, {width}x{height}, {summary['rate_hz']:.3g} Hz"),
        ("eseg_ros", summary["version"]),
    ]


def _rows(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in pairs)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
