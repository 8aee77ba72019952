"""The pages of a run and of a comparison: whole in themselves, and what a browser makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.evaluation.bootstrap import Resampling
from eseg_ros.evaluation.compare import compare_runs
from eseg_ros.evaluation.compare_report import write_comparison_report
from eseg_ros.evaluation.evaluator import Settings
from eseg_ros.evaluation.page import MOST_SHOWN, thin_out
from eseg_ros.evaluation.record import FrameScore, Record
from eseg_ros.evaluation.report import EMBEDDED_VIDEO_BYTES, apart, write_run_report
from eseg_ros.evaluation.run import Source, evaluate_run
from eseg_ros.evaluation.run_folder import load_run
from eseg_ros.evaluation.sequences import bag_sequences
from eseg_ros.labels import CAMVID

from .conftest import LABEL_TOPIC, TOPIC, BagMaker

FRAMES = 6
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")


class Page(HTMLParser):
    """The tags of a page, its links, its data and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.data: dict[str, str] = {}
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img", "br", "input"):  # which HTML never closes
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data[data[:20]] = data
        else:
            self.text += data

    def frames(self) -> list[dict[str, dict[str, str]]]:
        """The frames of the viewer."""
        data = next(text for begin, text in self.data.items() if begin.startswith("{"))
        frames: list[dict[str, dict[str, str]]] = json.loads(data)["frames"]
        return frames


@pytest.fixture
def run(tiny_engine: Path, make_bag: BagMaker, tmp_path: Path) -> Path:
    """A run over two bags of painted frames."""
    paths = [make_bag(f"bags/{name}", seed=seed, frames=FRAMES) for seed, name in enumerate(("day", "a <night>"))]
    bags = bag_sequences(paths, TOPIC, label_topic=LABEL_TOPIC)
    evaluate_run(bags, Source("2 bags", "labels"), Settings(tiny_engine, pictures=2 * FRAMES), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def comparison(run: Path, tmp_path: Path) -> Path:
    """The page of a comparison with a run that took every road for a sky."""
    first, second = load_run(run), load_run(run)
    second.record.confusion[:, 3] = np.roll(second.record.confusion[:, 3], 1, axis=-1)
    write_comparison_report(tmp_path / "comparison.html", compare_runs(first, second, Resampling(replicates=50)))
    return tmp_path / "comparison.html"


def test_every_tag_is_closed_and_every_placeholder_filled(run: Path, comparison: Path) -> None:
    for path in (run / "report.html", comparison):
        assert Page(path).open == []
        assert not re.search(r"\$[a-z]", path.read_text())


def test_the_pages_need_nothing_beside_them(run: Path, comparison: Path) -> None:
    for path in (run / "report.html", comparison):
        page = Page(path)
        assert "link" not in page.tags
        assert page.sources == []
        pictures = [url for frame in page.frames() for url in frame["layers"].values()]
        assert pictures
        assert all(url.startswith("data:image/") for url in pictures)
        assert "http" not in re.sub(r"data:[^\"]*", "", path.read_text())


def test_a_run_shows_each_class_each_sequence_and_every_frame(run: Path) -> None:
    page, summary = Page(run / "report.html"), json.loads((run / "summary.json").read_text())

    for name, iou in summary["per_class_iou"].items():
        assert name in page.text
        assert iou is None or f"{100 * iou:.1f}" in page.text
    assert "a <night>" in page.text
    assert len(page.frames()) == 2 * FRAMES
    assert page.frames()[0]["layers"].keys() == {"camera", "truth", "prediction", "error", "confidence"}
    for heading in ("Over time", "Classes", "Latency", "Worst frames", "Sequences", "Confusion", "What ran where"):
        assert heading in page.text


def test_without_ground_truth_there_are_no_scores_and_no_truth(
    tiny_engine: Path, make_bag: BagMaker, tmp_path: Path
) -> None:
    bags = bag_sequences([make_bag("drive", labels=False)], TOPIC)
    evaluate_run(bags, Source("drive", None), Settings(tiny_engine, pictures=4), tmp_path / "run")

    page = Page(tmp_path / "run/report.html")

    assert "There is no ground truth" in page.text
    assert "temporal consistency" in page.text
    assert page.frames()[0]["layers"].keys() == {"camera", "prediction", "confidence"}
    for absent in ("mIoU", "Classes", "Confusion"):
        assert absent not in page.text


def test_a_run_without_pictures_has_a_report_without_a_viewer(
    tiny_engine: Path, make_bag: BagMaker, tmp_path: Path
) -> None:
    bags = bag_sequences([make_bag("drive")], TOPIC, label_topic=LABEL_TOPIC)
    evaluate_run(bags, Source("drive", "labels"), Settings(tiny_engine), tmp_path / "run")

    page = Page(tmp_path / "run/report.html")

    assert page.frames() == []
    assert "Over time" in page.text
    assert "Worst frames" not in page.text


@pytest.mark.parametrize(
    ("size", "prefix"), [(100, "data:video/webm;base64,"), (EMBEDDED_VIDEO_BYTES + 1, "video.webm")]
)
def test_a_small_video_is_embedded_and_a_large_one_linked(run: Path, tmp_path: Path, size: int, prefix: str) -> None:
    video = tmp_path / "video.webm"
    video.write_bytes(bytes(size))
    finished = load_run(run)

    write_run_report(run / "film.html", finished.folder, finished.summary, finished.record, CAMVID, video)

    assert [source.startswith(prefix) for source in Page(run / "film.html").sources] == [True]


def test_frames_of_the_gallery_do_not_nearly_follow_each_other() -> None:
    frames = [FrameScore(str(i), i, i, answered=True) for i in range(60)]
    record = Record.join([Record.of("a", frames, 2, {}), Record.of("b", frames, 2, {})])

    assert apart([30, 31, 32, 90, 50], record, 4) == [30, 90, 50]
    assert apart([30, 50, 90], record, 2) == [30, 50]


def screenshot(page: Path, folder: Path, script: str = "") -> tuple[np.ndarray, str]:
    """What headless Chromium shows of a page, and the page's elements after its scripts ran, `script` last."""
    shown = folder / "shown.html"
    shown.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    picture = folder / "shot.png"
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1280,1400", "--virtual-time-budget=5000"),
    ]
    assert CHROMIUM is not None
    for output in (f"--screenshot={picture}", "--dump-dom"):
        done = subprocess.run(
            [CHROMIUM, *options, output, shown.as_uri()], capture_output=True, check=True, timeout=300
        )
    return cv2.imread(str(picture)), done.stdout.decode()


@needs_chromium
@pytest.mark.slow
def test_a_browser_shows_a_frame_under_its_mask_and_a_click_on_the_time_line_another(run: Path, tmp_path: Path) -> None:
    click = """
      const line = document.querySelector("svg.timeline"), box = line.getBoundingClientRect();
      window.before = document.getElementById("caption").textContent;
      line.dispatchEvent(new MouseEvent("click", {clientX: box.right - 8, clientY: box.top + 20}));
      document.body.dataset.captions = window.before + " | " + document.getElementById("caption").textContent;
    """

    picture, elements = screenshot(run / "report.html", tmp_path, click)

    captions = re.search(r'data-captions="([^"]*)"', elements)
    assert captions is not None
    before, after = captions[1].split(" | ")
    assert before != after
    assert f"frame {FRAMES - 1}" in after
    shown = re.search(r'<img class="layer" alt="" src="(data:image/png[^"]*)"', elements)
    assert shown is not None
    assert picture.shape == (1400, 1280, 3)
    hues = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    assert (hues[..., 1] > 100).mean() > 0.05  # the painted frame and its mask are on the page


@needs_chromium
@pytest.mark.slow
def test_a_browser_compares_two_runs_under_one_slider(comparison: Path, tmp_path: Path) -> None:
    drag = """
      const stage = document.querySelector(".stage"), box = stage.getBoundingClientRect();
      stage.setPointerCapture = () => {};
      stage.dispatchEvent(new PointerEvent("pointerdown", {clientX: box.left + box.width / 4, clientY: box.top + 9}));
    """

    _, elements = screenshot(comparison, tmp_path, drag)

    split = re.search(r"--split: ([\d.]+)%", elements)
    assert split is not None
    assert float(split[1]) == pytest.approx(25, abs=0.5)
    assert re.findall(r'class="tag">([^<]*)<', elements) == ["A: tiny", "B: tiny"]


def test_a_page_shows_the_bad_frames_of_a_thousand_drives_and_some_of_the_others() -> None:
    frames = list(range(3, 9000, 3))

    shown = thin_out(frames, [6000, 303])

    assert len(shown) <= MOST_SHOWN
    assert shown == sorted(set(shown) & set(frames))
    assert {6000, 303} <= set(shown)
    assert np.diff(shown).max() < 60
    assert thin_out(frames[:9], []) == frames[:9]
