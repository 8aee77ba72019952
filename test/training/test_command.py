from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from eseg_ros.training import command
from eseg_ros.training.checkpoint import CheckpointError

SMOKE = Path(__file__).parents[2] / "config" / "train" / "smoke.yaml"


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_dry_run_prints_the_resolved_recipe_and_touches_nothing(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(SMOKE, f"data.root={dataset}", f"out={tmp_path / 'runs'}", "epochs=4", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "epochs: 4" in printed
    assert "eseg_lite_s: 3.59 M parameters, 0.05 G multiply-adds at 96x64" in printed
    assert "4 epochs of 12 frames, 6 steps: about" in printed
    assert "An estimate" in printed
    assert not (tmp_path / "runs").exists()


def test_resuming_a_run_that_never_was_is_a_clear_error(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"smoke/last\.ckpt: no such checkpoint"):
        run(SMOKE, f"data.root={dataset}", f"out={tmp_path}", "--resume")


@pytest.mark.slow
def test_a_run_can_be_trained_and_resumed_by_command(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (SMOKE, f"data.root={dataset}", f"out={tmp_path}", "epochs=1")
    assert run(*recipe) == 0
    assert run(*recipe, "--resume") == 0
    assert f"best checkpoint: {tmp_path / 'smoke' / 'best.ckpt'}" in capsys.readouterr().out
