"""The short form of a soak: a node on a looping bag, all outputs taken, holds what it held.

The long form: `eseg soak --minutes 30 --out out/soak`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from eseg_ros.bag.create import IMAGE_TOPIC, render_bag
from eseg_ros.errors import BagError
from eseg_ros.evaluation.soak import JSON_FILE, LIMITS, PAGE_FILE, Sample, growth, soak, write_report

SECONDS = 6.0
PERIOD_S = 0.1


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of driving, which loops."""
    path = tmp_path_factory.mktemp("soak") / "drive"
    render_bag(path, seed=3, frames=20, rate_hz=20, width=160, height=120)
    return path


def test_a_node_on_a_looping_bag_holds_what_it_held(drive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    samples, masks = soak(tiny_engine, drive, IMAGE_TOPIC, SECONDS, tmp_path, period_s=PERIOD_S)

    assert len(samples) == round(SECONDS / PERIOD_S) + 1
    assert masks > 20  # more than one loop
    assert {name for name, judged in growth(samples).items() if not judged["held"]} == set()


def samples_of(**changing: list[float]) -> list[Sample]:
    steady = {"memory_mib": 100.0, "threads": 9, "files": 30, "cpu_s": 1.0}
    count = len(next(iter(changing.values())))
    return [
        Sample(float(i), **{**steady, **{name: values[i] for name, values in changing.items()}}) for i in range(count)
    ]


@pytest.mark.parametrize("name", list(LIMITS))
def test_what_grows_is_named(name: str) -> None:
    judged = growth(samples_of(**{name: [50.0 + i for i in range(100)]}))

    assert {key for key in judged if not judged[key]["held"]} == {name}
    assert judged[name]["to"] > judged[name]["from"]


def test_what_grows_while_buffers_find_their_size_does_not_count() -> None:
    assert growth(samples_of(memory_mib=[0.0] * 15 + [90.0] * 85))["memory_mib"]["held"]


def test_nothing_is_concluded_from_a_few_samples() -> None:
    with pytest.raises(ValueError, match="watch for longer"):
        growth(samples_of(files=[1.0] * 9))


def test_a_bag_that_cannot_be_played_is_told(drive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no image topic /nowhere"):
        soak(tiny_engine, drive, "/nowhere", 1, tmp_path)


def test_the_report_has_every_sample_and_a_plot_of_each_number(tmp_path: Path) -> None:
    samples = samples_of(memory_mib=[100.0, 101.0, 102.0])
    report = {"published": 7, "minutes": 1.0, "machine": "<m>", "date": "d", "command": "eseg soak", "growth": {}}

    write_report({**report, "samples": [asdict(sample) for sample in samples]}, tmp_path)

    assert len(json.loads((tmp_path / JSON_FILE).read_text())["samples"]) == 3
    page = (tmp_path / PAGE_FILE).read_text()
    assert page.count("<svg") == 4
    assert "&lt;m&gt;" in page
