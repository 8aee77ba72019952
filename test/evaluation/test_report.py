from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eseg_ros.evaluation.report import EMBEDDED_VIDEO_BYTES, Panel, Report, histogram_svg, render_report
from eseg_ros.labels import CAMVID

IMAGE = np.full((48, 64, 3), 90, np.uint8)
SUMMARY: dict[str, Any] = {
    "frames_in": 12,
    "frames_published": 10,
    "frames_dropped": 2,
    "dropped": {"dropped_busy": 2},
    "miou": 0.8125,
    "pixel_accuracy": 0.9375,
    "per_class_iou": dict.fromkeys(CAMVID.names, 0.5) | {"sky": None},
    "latency_ms": {"p50": 20.0, "p95": 30.0, "p99": 31.0},
    "inference_ms": {"p50": 9.5},
    "engine": "eseg_lite",
    "precision": "fp32",
    "runtime": "openvino",
    "device": "CPU",
    "machine": "a machine <with> brackets",
    "bag": "out/drive",
    "topic": "/camera/image_raw",
    "image_size": [64, 48],
    "rate_hz": 10.0,
    "version": "0.1.0",
}
REPORT = Report(
    title="eseg_lite on a drive",
    subtitle="12 images went in",
    summary=SUMMARY,
    classes=CAMVID,
    dropped={"replaced by a newer image": 2, "too old": 0},
    class_shares=[1 / len(CAMVID)] * len(CAMVID),
    panels=[Panel("frame 3", IMAGE, IMAGE, IMAGE)],
    panels_note="spread evenly",
    latencies_ms=[20.0, 25.0, 31.0],
)


class Page(HTMLParser):
    """The tags of a page, its links and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img"):  # which HTML never closes
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def without_truth() -> Report:
    summary = SUMMARY | {"miou": None, "pixel_accuracy": None, "per_class_iou": None}
    return replace(REPORT, summary=summary, panels=[Panel("frame 3", IMAGE, None, IMAGE)])


@pytest.mark.parametrize("report", [REPORT, without_truth()])
def test_every_tag_is_closed_and_every_placeholder_filled(report: Report) -> None:
    text = render_report(report)

    assert Page(text).open == []
    assert not re.search(r"\$[a-z]", text)


def test_the_page_needs_nothing_beside_it() -> None:
    page = Page(render_report(REPORT))

    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert "link" not in page.tags
    assert "script" not in page.tags


def test_each_class_stands_with_its_color_and_its_score() -> None:
    text = render_report(REPORT)

    for name, color in zip(CAMVID.names, CAMVID.palette, strict=True):
        assert f'background:rgb{color}"></span>{name}</td>' in text
    assert text.count('<td class="number">0.500</td>') == len(CAMVID) - 1


def test_a_class_without_a_score_has_a_dash() -> None:
    assert render_report(REPORT).count('<td class="number">–</td>') == 1


def test_without_ground_truth_there_are_no_scores_and_no_truth_panels() -> None:
    page = Page(render_report(without_truth()))

    assert page.tags.count("img") == 2
    assert "No ground truth: no scores." in page.text
    assert "mean IoU" not in page.text


def test_only_reasons_that_dropped_a_frame_are_listed() -> None:
    page = Page(render_report(REPORT))

    assert "replaced by a newer image" in page.text
    assert "too old" not in page.text


def test_text_from_outside_is_escaped() -> None:
    assert "a machine &lt;with&gt; brackets" in render_report(REPORT)


@pytest.mark.parametrize(
    ("size", "prefix"), [(100, "data:video/webm;base64,"), (EMBEDDED_VIDEO_BYTES + 1, "video.webm")]
)
def test_a_small_video_is_embedded_and_a_large_one_linked(tmp_path: Path, size: int, prefix: str) -> None:
    video = tmp_path / "video.webm"
    video.write_bytes(bytes(size))

    sources = Page(render_report(replace(REPORT, video=video))).sources

    assert sum(source.startswith(prefix) for source in sources) == 1


def test_the_histogram_counts_every_value_and_keeps_outliers_in_the_last_bar() -> None:
    values = [*np.linspace(10, 20, 99), 1000.0]

    svg = histogram_svg(values)

    assert sum(int(count) for count in re.findall(r"ms: (\d+)</title>", svg)) == 100
    assert "p50 15 ms" in svg
    assert "1000" not in svg


def test_one_value_makes_a_histogram_too() -> None:
    assert histogram_svg([5.0]).count("<rect") == 1


def test_no_value_is_said_in_words() -> None:
    assert histogram_svg([]) == "<p>No frame was published.</p>"
