from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.record import FrameScore, Record, csv_lines

NAMES = ("road", "car, parked")
CONFUSION = np.array([[8, 2, 0], [0, 9, 1]], np.int64)
FRAMES = [
    FrameScore("a", 0, 100, answered=True, confusion=CONFUSION, temporal=0.9, latency_ms=12.5, stages_ms=(1, 10, 1.5)),
    FrameScore("b", 1, 200, answered=False),
    FrameScore("c", 2, 300, answered=True, temporal=0.8, confidence=0.7),
]


def record(sequence: str = "drive") -> Record:
    return Record.of(sequence, FRAMES, len(NAMES), {"runtime": "openvino"})


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    record().save(tmp_path / "frames.npz")

    loaded = Record.load(tmp_path / "frames.npz")

    for name in Record.__dataclass_fields__:
        if name != "facts":
            np.testing.assert_array_equal(getattr(loaded, name), getattr(record(), name))
    assert loaded.facts == {"drive": {"runtime": "openvino"}}


def test_a_cut_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "frames.npz"
    record().save(path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(EsegError, match=r"frames\.npz cannot be read"):
        Record.load(path)


def test_a_frame_is_scored_if_it_has_a_mask_and_labelled_pixels() -> None:
    assert record().scored.tolist() == [True, False, False]


def test_records_are_joined_in_order() -> None:
    joined = Record.join([record("night"), record("day")])

    assert joined.sequences == ["night", "day"]
    assert joined.name.tolist() == ["a", "b", "c"] * 2
    assert joined.facts.keys() == {"night", "day"}


def test_bad_frames_are_found_by_iou_else_by_steadiness() -> None:
    iou = np.mean([8 / 10, 9 / 12])
    assert record().quality() == pytest.approx([iou, np.nan, np.nan], nan_ok=True)
    assert FRAMES[0].quality() == pytest.approx(iou)
    unlabeled = Record.of("drive", FRAMES[1:], len(NAMES), {})
    assert unlabeled.quality() == pytest.approx([np.nan, 0.8], nan_ok=True)
    assert FRAMES[2].quality() == 0.8


def test_the_table_has_a_line_a_frame_and_gaps_where_nothing_was_measured() -> None:
    head, first, second, _ = csv.reader(csv_lines(record(), NAMES))

    row = dict(zip(head, first, strict=True))
    assert (row["sequence"], row["frame"], row["stamp_ns"], row["answered"]) == ("drive", "a", "100", "1")
    assert float(row["iou.road"]) == pytest.approx(0.8)
    assert float(row["iou.car, parked"]) == pytest.approx(0.75)
    assert (row["inference_ms"], row["latency_ms"]) == ("10", "12.5")
    assert dict(zip(head, second, strict=True))["miou"] == ""


def test_an_empty_sequence_is_a_record_too(tmp_path: Path) -> None:
    Record.of("empty", [], len(NAMES), {}).save(tmp_path / "frames.npz")

    assert len(Record.join([Record.load(tmp_path / "frames.npz"), record()])) == 3
