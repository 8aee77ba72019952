from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.training import runs_command
from eseg_ros.training.config import config_from_dict, config_to_yaml
from eseg_ros.training.runs import RunError, differences_table, find_runs, read_run, runs_table

LOGGED_RUNS = Path(__file__).parents[2] / "docs" / "training"


def write_run(folder: Path, recipe: dict[str, Any], mious: dict[int, float], hour: int = 8) -> Path:
    """A run of four epochs as the trainer leaves it, validated where `mious` has an epoch."""
    path = folder / str(recipe["name"])
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config_to_yaml(config_from_dict(recipe)))
    lines = []
    for epoch in range(1, 5):
        entry: dict[str, Any] = {
            "epoch": epoch, "step": 3 * epoch, "time": f"2026-01-02T{hour:02}:{epoch:02}:00+00:00", "loss": 1 / epoch,
            "lr": 1e-3, "seconds": 900.0, "seconds_per_step": 0.5, "data_wait": 0.01,
        }  # fmt: skip
        if epoch in mious:
            entry["scores"] = {"val/miou": mious[epoch], "val/iou/sky": None}
        lines.append(json.dumps(entry))
    (path / "metrics.jsonl").write_text("\n".join(lines))
    return path


def test_the_best_epoch_is_the_first_of_the_highest_mean_miou(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, recipe, {1: 0.2, 2: 0.5, 3: 0.5, 4: 0.4}))
    best = run.best()
    assert best is not None
    assert best["epoch"] == 2
    assert run.miou(best, "val") == 0.5
    assert run.hours == 1.0


def test_runs_are_listed_in_the_order_they_began_each_on_a_line(recipe: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path, {**recipe, "name": "late"}, {4: 0.5}, hour=9)
    write_run(tmp_path, {**recipe, "name": "early", "epochs": 8}, {})
    head, early, late = runs_table(find_runs([tmp_path])).splitlines()
    assert head.split()[:3] == ["run", "model", "epochs"]
    assert early.split() == ["early", "eseg_lite_s", "4/8", "-", "-", "0.002", "4", "1.0", "2026-01-02", "08:04"]
    assert late.split()[2:6] == ["4/2", "val", "0.500", "4"]


def test_only_what_recipes_do_not_agree_on_is_a_difference(recipe: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path, {**recipe, "name": "a"}, {})
    other = {**recipe, "name": "b", "optimizer": {**recipe["optimizer"], "lr": 1e-4}}
    other["data"] = {**recipe["data"], "train": [{"split": "train"}, {"split": "val"}]}
    write_run(tmp_path, other, {}, hour=9)
    table = [line.split() for line in differences_table(find_runs([tmp_path])).splitlines()]
    assert table[0] == ["key", "a", "b"]
    assert ["optimizer.lr", "0.002", "0.0001"] in table
    assert ["data.train.1.split", "-", "val"] in table
    assert {row[0].split(".")[0] for row in table} == {"key", "optimizer", "data"}


def test_recipes_without_a_difference_are_called_equal(recipe: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path, {**recipe, "name": "a"}, {})
    write_run(tmp_path, {**recipe, "name": "b"}, {})
    assert differences_table(find_runs([tmp_path])) == "the recipes are equal"


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a training run nor a folder of them"):
        find_runs([tmp_path])


def test_a_run_without_recipe_is_an_error_that_names_the_file(recipe: dict[str, Any], tmp_path: Path) -> None:
    path = write_run(tmp_path, recipe, {})
    (path / "config.yaml").unlink()
    with pytest.raises(RunError, match=r"it has no config\.yaml"):
        read_run(path)


def test_the_logged_runs_of_the_project_are_compared_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    assert runs_command.run(parser.parse_args([str(LOGGED_RUNS), "--diff"])) == 0
    printed = capsys.readouterr().out
    assert "eseg_lite_s_street_finetuned" in printed
    assert "optimizer.lr" in printed
