"""A recipe of seconds for the small data set that a network can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eseg_ros.training.config import TrainConfig, config_from_dict


@pytest.fixture
def recipe(dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe of seconds on that data set, as plain values to change."""
    return {
        "name": "run",
        "model": "eseg_lite_s",
        "classes": "camvid",
        "epochs": 2,
        "validate_every": 1,
        "precision": "32",
        "ema_decay": 0.9,
        "out": str(tmp_path / "runs"),
        "augment": {"crop": [64, 96], "flip": 0.5, "scale": [0.8, 1.25], "brightness": 0.1, "noise": 0.5},
        "data": {"root": str(dataset), "batch_size": 4, "num_workers": 0},
        "optimizer": {"name": "adamw", "lr": 2e-3, "warmup_epochs": 0},
    }


@pytest.fixture
def config(recipe: dict[str, Any]) -> TrainConfig:
    """That recipe, built."""
    return config_from_dict(recipe)
