from __future__ import annotations

from pathlib import Path

import pytest

from eseg_ros.bag.reader import BagReader
from eseg_ros.cli import main


def test_render_makes_a_bag_of_the_size_rate_and_format_asked_for(tmp_path: Path) -> None:
    arguments = ["--seed", "3", "--frames", "2", "--rate", "20", "--size", "64x48", "--format", "sqlite3"]

    assert main(["bag", "render", str(tmp_path / "drive"), *arguments]) == 0

    with BagReader(tmp_path / "drive" / "drive.db3") as bag:
        first, second = bag.frames("/camera/image_raw")
    assert (first.width, first.height) == (64, 48)
    assert second.stamp_ns - first.stamp_ns == 50_000_000


def test_an_error_for_people_comes_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bag", "create", "--images", str(tmp_path / "nothing"), "--rate", "10", str(tmp_path / "bag")]) == 1

    assert capsys.readouterr().err.startswith("eseg: no folder at ")


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--rate", "nan"], ["--frames", "0"], ["--size", "640"]])
def test_values_that_make_no_sense_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bag", "render", str(tmp_path / "drive"), *arguments])
    assert not (tmp_path / "drive").exists()
