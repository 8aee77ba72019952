"""`eseg data check`: reads a data set once and names its bad files."""

from __future__ import annotations

import argparse
import base64
import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eseg_ros.data.check import SplitCheck
    from eseg_ros.data.reading import Image
    from eseg_ros.labels import ClassSet

PANEL_WIDTH = 320


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="root of the data set")
    parser.add_argument(
        "--classes", default="camvid", help="what the ids mean: a class set or a class file (default: %(default)s)"
    )
    parser.add_argument("--layout", default="auto", help="how the data set is kept (default: what ROOT looks like)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with figures and sample panels")


def run(args: argparse.Namespace) -> int:
    """Prints what each split holds, then every bad file. Returns 1 where there are any, else 0."""
    from eseg_ros.data.check import check_dataset
    from eseg_ros.data.class_file import find_class_set
    from eseg_ros.data.layouts import find_layout

    classes = find_class_set(args.classes)
    layout = find_layout(args.root, args.layout)
    checks = check_dataset(args.root, classes, layout)
    print(f"{args.root}: layout {layout.name}, classes {classes.name}")
    for check in checks:
        print(describe(check, classes))
    problems = [problem for check in checks for problem in check.problems]
    for problem in problems:
        print(f"bad: {problem}", file=sys.stderr)
    if problems:
        print(f"{args.root}: {len(problems)} problems; mend or remove these files", file=sys.stderr)
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(page(args.root, checks, classes), encoding="utf-8")
        print(f"report: {args.report}")
    return 1 if problems else 0


def describe(check: SplitCheck, classes: ClassSet) -> str:
    """Frames, sizes and the share of each class of a split, as text."""
    lines = [
        f"{check.split}: {check.frames} frames{_of_drives(check)}; {_sizes(check) or 'none readable'}; "
        f"{len(check.problems)} problems"
    ]
    if not check.labeled:
        return f"{lines[0]}; no labels"
    rows = _shares(check, classes)
    width = max(len(name) for _, name, _ in rows)
    return "\n".join([*lines, *(f"  {index:3d} {name:<{width}} {share:8.3%}" for index, name, share in rows)])


def page(root: Path, checks: Sequence[SplitCheck], classes: ClassSet) -> str:
    """The same as a self-contained HTML page, with sample frames beside their labels."""
    parts = [
        "<!doctype html><meta charset='utf-8'><title>data check</title><style>body{font:15px/1.5 system-ui,sans-serif;"
        "max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1c2530}table{border-collapse:collapse}"
        "td{padding:.1rem .8rem .1rem 0;font-variant-numeric:tabular-nums}.swatch{display:inline-block;width:1rem;"
        "height:1rem;border-radius:3px;vertical-align:-2px}.bar{background:#4a7ebb;height:.7rem;border-radius:2px}"
        "img{display:block;width:100%;border-radius:4px}.panels{display:grid;gap:8px;grid-template-columns:repeat(3,1fr)}"
        ".bad{color:#a3231f}</style>",
        f"<h1>{html.escape(str(root))}</h1><p>Classes: {html.escape(classes.name)}</p>",
    ]
    for check in checks:
        parts.append(f"<h2>{html.escape(check.split)}: {check.frames} frames{_of_drives(check)}</h2>")
        parts.append(f"<p>{html.escape(_sizes(check)) or 'none readable'}; {len(check.problems)} problems</p>")
        parts += [f"<p class='bad'>{html.escape(problem)}</p>" for problem in check.problems]
        if check.labeled:
            parts.append(_class_table(check, classes))
        panels = "".join(f"<img alt='frame over its label' src='{_panel(*pair, classes)}'>" for pair in check.panels)
        parts.append(f"<div class='panels'>{panels}</div>")
    return "".join(parts)


def _class_table(check: SplitCheck, classes: ClassSet) -> str:
    colors = classes.color_table()
    rows = "".join(
        f"<tr><td><span class='swatch' style='background:rgb({','.join(map(str, colors[index]))})'></span></td>"
        f"<td>{index}</td><td>{html.escape(name)}</td><td>{share:.3%}</td>"
        f"<td style='width:20rem'><div class='bar' style='width:{100 * share:.2f}%'></div></td></tr>"
        for index, name, share in _shares(check, classes)
    )
    return f"<table>{rows}</table>"


def _panel(image: Image, label: Image, classes: ClassSet) -> str:
    """A frame over its label in the classes' colors, as a data URI."""
    import cv2
    import numpy as np

    colors = classes.color_table()[label]
    both = np.vstack([image, colors])
    size = (PANEL_WIDTH, round(both.shape[0] * PANEL_WIDTH / both.shape[1]))
    small = cv2.resize(both, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _shares(check: SplitCheck, classes: ClassSet) -> list[tuple[int, str, float]]:
    """Id, name and share of the pixels of every class, the ignored id last."""
    total = max(1, int(check.histogram.sum()))
    rows = [*enumerate(classes.names), (classes.ignore_id, "(ignored)")]
    return [(index, name, float(check.histogram[index]) / total) for index, name in rows]


def _sizes(check: SplitCheck) -> str:
    return ", ".join(f"{count} of {width}x{height}" for (width, height), count in sorted(check.sizes.items()))


def _of_drives(check: SplitCheck) -> str:
    return f" of {len(check.sequences)} drives" if check.sequences else ""
