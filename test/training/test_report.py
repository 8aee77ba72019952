from __future__ import annotations

import argparse
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eseg_ros.errors import EsegError
from eseg_ros.training import runs_command
from eseg_ros.training.checkpoint import load_for_export
from eseg_ros.training.config import TrainConfig, load_config
from eseg_ros.training.report import REPORT_FILE, write_run_report
from eseg_ros.training.trainer import train

SMOKE = Path(__file__).parents[2] / "config" / "train" / "smoke.yaml"


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run of two epochs on two validation sets, done."""
    config = load_config(
        SMOKE,
        [f"data.root={dataset}", f"out={tmp_path_factory.mktemp('runs')}", "precision=32",
         "data.validate=[{name: held_out}, {name: seen, split: train}]"],
    )  # fmt: skip
    train(config)
    return config


@pytest.fixture
def page(finished: TrainConfig) -> str:
    """The report that the run ended in."""
    return (finished.run_dir / REPORT_FILE).read_text(encoding="utf-8")


def test_a_run_ends_in_a_page_with_the_scores_of_its_best_weights(finished: TrainConfig, page: str) -> None:
    _, record = load_for_export(finished.run_dir / "best.ckpt")
    for name in ("held_out", "seen"):
        assert f"<b>{100 * record.scores[f'{name}/miou']:.1f} %</b>mIoU, {name}" in page
    assert "Validation set held_out: 3 frames" in page
    assert "Confusion" in page


def test_the_page_shows_every_curve_and_the_worst_and_best_frames_of_each_set(page: str) -> None:
    for curve in ("loss", "learning rate (1e-3)", "mIoU, held_out (%)", "mIoU, seen (%)"):
        assert f"<h3>{curve}</h3><svg" in page
    galleries = re.findall(r"<h2>(Worst|Best) frames</h2>(.*?)</figure></div>", page, re.DOTALL)
    assert [title for title, _ in galleries] == ["Worst", "Best"]
    assert all({"held_out", "seen"} <= set(re.findall(r"<figcaption>(\w+),", gallery)) for _, gallery in galleries)


def test_the_page_says_what_was_trained_where(finished: TrainConfig, page: str) -> None:
    assert "PyTorch" in page
    assert "GiB" in page
    assert "revision" in page
    assert "optimizer:" in page


def test_the_page_needs_no_network(page: str) -> None:
    links: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            links.extend(value or "" for name, value in attributes if name in ("src", "href"))

    Links().feed(page)
    assert [link for link in links if not link.startswith("data:")] == []
    assert "http" not in page


def test_a_report_can_be_made_anew_from_the_run_alone(finished: TrainConfig, page: str) -> None:
    (finished.run_dir / REPORT_FILE).unlink()
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    assert runs_command.run(parser.parse_args([str(finished.run_dir), "--report"])) == 0
    assert (finished.run_dir / REPORT_FILE).read_text(encoding="utf-8") == page


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(EsegError, match="no training run"):
        write_run_report(tmp_path)
