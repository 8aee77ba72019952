from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eseg_ros.data.reading import DataError
from eseg_ros.training.config import TrainConfig
from eseg_ros.training.estimate import MOST_FRAMES_ON_CPU, count_epoch, estimate_text, measure_step


def test_an_epoch_is_counted_by_the_files_that_are_there(config: TrainConfig) -> None:
    epoch = count_epoch(config)
    assert (epoch.frames, epoch.steps) == (12, 3)
    assert epoch.cache_bytes == (12 + 3) * 64 * 96 * 4
    assert count_epoch(replace(config, data=replace(config.data, cache=False))).cache_bytes == 0


def test_an_epoch_of_data_that_is_not_there_is_an_error(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        count_epoch(replace(config, data=replace(config.data, root=tmp_path / "nowhere")))


def test_real_steps_are_timed_with_few_frames_and_multiplied(config: TrainConfig) -> None:
    config = replace(config, data=replace(config.data, batch_size=16), accumulate=2)
    cost = measure_step(config)
    assert (cost.frames, cost.passes) == (MOST_FRAMES_ON_CPU, 4)
    assert cost.seconds > 0
    assert cost.peak_bytes > 1e8  # the process holds PyTorch
    assert not config.out.exists()


def test_without_its_data_a_recipe_still_has_its_step_estimated(config: TrainConfig, tmp_path: Path) -> None:
    text = estimate_text(replace(config, data=replace(config.data, root=tmp_path / "nowhere")))
    assert "a step of 4 frames: about" in text
    assert "not known without its data" in text
    assert "An estimate: the median of 2 steps of 4 random frames, times 1" in text
