"""The report's page: one HTML file with all its pictures, which needs no network and nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from eseg_ros.engine.manifest import write_atomically
from eseg_ros.labels import ClassSet

MOST_SHOWN = 240
"""Frames with pictures on a page, which makes some ten megabytes."""
_IMPORTANT = 60
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webm": "video/webm", ".mp4": "video/mp4"}


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame with pictures.

    Attributes:
        caption: which frame, and what is to say about it.
        step: its place on the time line.
        layers: layer -> file. PNG files are shown over the layer "camera".
    """

    caption: str
    step: int
    layers: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the page's viewer shows: two layers of a frame side by side under a slider.

    Attributes:
        layers: key -> words, in the order of the menus.
        left, right: the layers shown at first.
        frames: in the order of the drive.
        first: the frame shown at first.
    """

    layers: Mapping[str, str]
    left: str
    right: str
    frames: Sequence[ShownFrame]
    first: int = 0


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[str], viewer: Viewer) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        title: one line, as text.
        subtitle: a sentence or two, as text.
        sections: HTML, one below the other.
        viewer: what `viewer_html` and `gallery_html` show.
    """
    template = Template(resources.files("eseg_ros.evaluation").joinpath("report.html").read_text(encoding="utf-8"))
    data = {
        "left": viewer.left,
        "right": viewer.right,
        "first": viewer.first,
        "frames": [
            {
                "caption": frame.caption,
                "step": frame.step,
                "layers": {layer: data_url(file) for layer, file in frame.layers.items()},
            }
            for frame in viewer.frames
        ],
    }
    page = template.substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        body="\n".join(section for section in sections if section),
        data=json.dumps(data).replace("<", "\\u003c"),  # no "</script>" may stand in a script
    )
    write_atomically(path, page.encode())


def thin_out(frames: Sequence[int], important: Sequence[int]) -> list[int]:
    """At most MOST_SHOWN of some frames, in their order: the first of the important ones, the others spread evenly."""
    if len(frames) <= MOST_SHOWN:
        return list(frames)
    spread = [frames[i * len(frames) // (MOST_SHOWN - _IMPORTANT)] for i in range(MOST_SHOWN - _IMPORTANT)]
    return sorted({*spread, *important[:_IMPORTANT]})


def data_url(path: Path) -> str:
    """A picture or video as a URL that holds all of it."""
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def viewer_html(viewer: Viewer, classes: ClassSet) -> str:
    """The viewer with its menus and the legend; empty without frames."""
    if not viewer.frames:
        return ""

    def menu(side: str, chosen: str) -> str:
        options = "".join(
            f'<option value="{key}"{" selected" if key == chosen else ""}>{html.escape(words)}</option>'
            for key, words in viewer.layers.items()
        )
        return f'<label>{side} <select id="{side}">{options}</select></label>'

    pane = '<div class="pane {side}"><img class="base" alt=""><img class="layer" alt=""><span class="tag"></span></div>'
    return (
        '<div class="card viewer" id="viewer"><div class="stage" tabindex="0" aria-label="two layers of a frame">'
        f'{pane.format(side="left")}{pane.format(side="right")}<div class="handle"></div></div>'
        '<div class="controls"><button id="previous" aria-label="previous frame">‹</button>'
        '<button id="next" aria-label="next frame">›</button><span id="caption"></span></div>'
        f'<div class="controls">{menu("left", viewer.left)}{menu("right", viewer.right)}'
        '<label>opacity <input id="opacity" type="range" min="0" max="100" value="60"></label></div>'
        f'<div class="legend">{legend_html(classes)}</div></div>'
    )


def gallery_html(places: Sequence[int], layers: Sequence[str], viewer: Viewer) -> str:
    """Frames of the viewer, by place, as cards with their layers side by side; a click shows one in the viewer."""
    heads = "".join(f"<span>{html.escape(viewer.layers[layer])}</span>" for layer in layers)
    style = f'style="--columns:{len(layers)}"'
    cards = "".join(
        f'<figure data-frame="{place}"><figcaption>{html.escape(viewer.frames[place].caption)}</figcaption>'
        f'<div class="thumbs" {style}>'
        + "".join(f'<div class="thumb" data-layer="{layer}"></div>' for layer in layers)
        + "</div></figure>"
        for place in places
    )
    return f'<div class="thumbs head" {style}>{heads}</div><div class="gallery">{cards}</div>'


def legend_html(classes: ClassSet) -> str:
    """Every class with its color."""
    return "".join(f"<span>{class_html(classes, name)}</span>" for name in classes.names)


def class_html(classes: ClassSet, name: str) -> str:
    """A class's name behind its color."""
    rgb = classes.palette[classes.names.index(name)]
    return f'<span class="swatch" style="background:rgb{rgb}"></span>{html.escape(name)}'


def tiles_html(tiles: Sequence[tuple[str, str, str]]) -> str:
    """Big numbers: (name, number, small print)."""
    return (
        '<section class="tiles">'
        + "".join(
            f'<div class="card tile"><b>{html.escape(number)}</b>{html.escape(name)}'
            f"<small>{html.escape(small)}</small></div>"
            for name, number, small in tiles
        )
        + "</section>"
    )


def rows_html(pairs: Sequence[tuple[str, str]]) -> str:
    """A table of names and values."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in pairs)
    return f'<div class="card"><table>{rows}</table></div>'


def percent(share: float | None) -> str:
    """A share in percent, one digit behind the point."""
    return "–" if share is None else f"{100 * share:.1f}"


def interval_text(interval: Sequence[float | None] | None) -> str:
    """The ends of an interval of shares, in percent."""
    if interval is None or interval[0] is None or interval[1] is None:
        return ""
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"
