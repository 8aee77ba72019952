from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from eseg_ros.data.reading import DataError
from eseg_ros.errors import EsegError
from eseg_ros.training.config import TrainConfig, config_from_dict
from eseg_ros.training.faults import OutOfMemoryError, named_faults
from eseg_ros.training.trainer import SegmentationTask, train


def test_a_step_that_does_not_fit_in_memory_ends_the_run_with_what_to_change(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SegmentationTask, "training_step", lambda *_: torch.empty(1 << 50))
    with pytest.raises(OutOfMemoryError, match=r"4 frames of 96x64 .* in 1 passes .* accumulate=2"):
        train(config)


def test_memory_errors_of_the_gpu_and_of_numpy_are_known(config: TrainConfig) -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()):
        with pytest.raises(OutOfMemoryError), named_faults(config):
            raise error


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU knows fp16")
def test_a_precision_that_the_device_does_not_know_is_an_error(recipe: dict[str, Any]) -> None:
    with pytest.raises(EsegError, match="16-mixed needs a GPU"):
        train(config_from_dict({**recipe, "precision": "16-mixed"}))


def test_other_errors_stay_as_they_are(config: TrainConfig) -> None:
    with pytest.raises(RuntimeError, match="shapes"), named_faults(config):
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("cache", [True, False])
def test_an_id_outside_the_classes_ends_the_run_with_the_label_by_name(
    recipe: dict[str, Any], tmp_path: Path, cache: bool, num_workers: int
) -> None:
    for kind, pixels in (("images", np.zeros((64, 96, 3), np.uint8)), ("labels", np.full((64, 96), 77, np.uint8))):
        (tmp_path / "data/train" / kind).mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(tmp_path / "data/train" / kind / f"{index}.png"), pixels if index else 0 * pixels)
    recipe["data"] |= {
        "train": [{"root": str(tmp_path / "data")}], "cache": cache, "num_workers": num_workers,
    }  # fmt: skip
    with pytest.raises(DataError, match=r"^\S*/labels/\d\.png: ids \[77\]") as caught:
        train(config_from_dict(recipe))
    assert "Traceback" not in str(caught.value)
