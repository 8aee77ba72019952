"""A small data set that a network can learn: blocks of class colors, with a little noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eseg_ros.labels import CAMVID
from eseg_ros.training.config import TrainConfig, config_from_dict


def write_frame(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    """Writes an RGB frame and its ids as FOLDER/images/NAME.png and FOLDER/labels/NAME.png."""
    for kind, pixels in (("images", image[..., ::-1]), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / kind / f"{name}.png"), pixels)


def blocks(rng: np.random.Generator, height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A frame (height, width, 3) of 32-pixel blocks in the colors of their classes, and its label."""
    ids = rng.integers(0, 4, (height // 32, width // 32)).astype(np.uint8)
    label = np.kron(ids, np.ones((32, 32), np.uint8))
    noise = rng.integers(-10, 11, (height, width, 3))
    image = np.clip(CAMVID.color_table()[label] + noise, 0, 255).astype(np.uint8)
    return image, label


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ROOT with 12 training and 3 validation frames of 96x64 pixels, classes 0 to 3 of CamVid."""
    root = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for index in range(count):
            write_frame(root / split, f"{index:03d}", *blocks(rng))
    return root


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
