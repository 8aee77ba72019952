from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from eseg_ros.data.reading import DataError
from eseg_ros.labels import CAMVID
from eseg_ros.training.config import config_from_dict
from eseg_ros.training.data import (
    EpochSampler,
    SegmentationFolder,
    training_loader,
    validation_loader,
    validation_sets,
)


def test_frames_come_as_rgb_with_their_ids(dataset: Path) -> None:
    image, label = SegmentationFolder(dataset, "train", CAMVID, cache=False)[0]
    assert image.dtype == label.dtype == np.uint8
    assert image.shape == (*label.shape, 3)
    assert np.abs(image.astype(int) - CAMVID.color_table()[label]).max() <= 10


def test_cached_frames_are_the_frames_on_disk(dataset: Path) -> None:
    cached = SegmentationFolder(dataset, "val", CAMVID, cache=True)
    for index, (image, label) in enumerate(
        SegmentationFolder(dataset, "val", CAMVID, cache=False)[i] for i in range(3)
    ):
        np.testing.assert_array_equal(cached[index][0], image)
        np.testing.assert_array_equal(cached[index][1], label)


def batches(recipe: dict[str, Any], epoch: int, **data: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    config = config_from_dict({**recipe, "data": {**recipe["data"], **data}})
    return [(image, label) for image, label in training_loader(config, epoch)]


@pytest.mark.parametrize("changed", [{"num_workers": 1}, {"num_workers": 2}, {"cache": False}], ids=str)
def test_batches_depend_neither_on_workers_nor_on_the_cache(recipe: dict[str, Any], changed: dict[str, Any]) -> None:
    for plain, other in zip(batches(recipe, 3), batches(recipe, 3, **changed), strict=True):
        assert torch.equal(plain[0], other[0])
        assert torch.equal(plain[1], other[1])


def test_every_epoch_is_another_one_and_every_seed_too(recipe: dict[str, Any]) -> None:
    first = batches(recipe, 0)[0][0]
    assert not torch.equal(first, batches(recipe, 1)[0][0])
    assert not torch.equal(first, batches({**recipe, "seed": 1}, 0)[0][0])


def frames_of(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return [draw.frame for draw in sampler]


def test_an_epoch_shows_every_frame_once_in_an_order_of_its_own() -> None:
    sampler = EpochSampler([5, 3], [1.0, 1.0], seed=0)
    orders = [frames_of(sampler, epoch) for epoch in range(4)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_a_source_repeated_by_a_fraction_shows_all_its_frames_equally_often_over_the_epochs() -> None:
    sampler = EpochSampler([4, 10], [2.0, 0.3], seed=0)
    epochs = [frames_of(sampler, epoch) for epoch in range(10)]
    assert {len(epoch) for epoch in epochs} == {len(sampler)} == {8 + 3}
    assert Counter(frame for epoch in epochs for frame in epoch) == {f: 20 if f < 4 else 3 for f in range(14)}


def test_two_shows_of_a_frame_in_one_epoch_are_augmented_differently(recipe: dict[str, Any]) -> None:
    images = torch.cat([image for image, _ in batches(recipe, 0, train=[{"split": "val", "repeat": 4}])])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 12


def test_rare_classes_are_pasted_from_other_frames_of_the_source(recipe: dict[str, Any]) -> None:
    plain = batches(recipe, 0)
    recipe["augment"]["paste"] = {"classes": ["building"], "probability": 1.0}
    pasted = batches(recipe, 0)
    ids = [CAMVID.names.index(name) for name in ("building",)]

    def share(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
        return torch.isin(torch.cat([label for _, label in batches]), torch.tensor(ids)).float().mean().item()

    assert share(pasted) > 1.2 * share(plain) > 0


def test_validation_shows_frames_as_they_are_whatever_their_size(recipe: dict[str, Any], dataset: Path) -> None:
    recipe["data"]["validate"] = [{"name": "a"}, {"name": "b", "split": "train"}]
    first, second = map(validation_loader, validation_sets(config_from_dict(recipe)))
    assert (len(first), len(second)) == (3, 12)
    image, label = next(iter(first))
    raw, raw_label = SegmentationFolder(dataset, "val", CAMVID, cache=False)[0]
    np.testing.assert_array_equal(image[0].numpy(), raw)
    np.testing.assert_array_equal(label[0].numpy(), raw_label)


def test_validation_shows_frames_at_the_engines_size_and_labels_at_their_own(recipe: dict[str, Any]) -> None:
    recipe["data"]["size"] = [80, 112]
    image, label = next(iter(validation_loader(validation_sets(config_from_dict(recipe))[0])))
    assert image.shape == (1, 80, 112, 3)
    assert label.shape[1:] != (80, 112)


def test_an_empty_split_and_an_unpaired_frame_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        SegmentationFolder(tmp_path, "train", CAMVID, cache=False)
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "images" / "lonely.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"lonely\.png"):
        SegmentationFolder(tmp_path, "train", CAMVID, cache=False)


def test_a_drive_can_be_held_out(recipe: dict[str, Any]) -> None:
    recipe["data"]["train"] = [{"split": "train", "exclude": ["01"]}]
    recipe["data"]["validate"] = [{"name": "held_out", "split": "train", "include": ["01"]}]
    config = config_from_dict(recipe)
    (held_out,) = validation_sets(config)
    everything = SegmentationFolder(Path(recipe["data"]["root"]), "train", CAMVID, cache=False)
    kept = sum(name.startswith("01") for name in everything.names)
    assert 0 < kept < len(everything)
    assert len(held_out) == kept
    assert len(training_loader(config)) == (len(everything) - kept) // config.data.batch_size


def test_an_epoch_smaller_than_a_batch_is_an_error(recipe: dict[str, Any]) -> None:
    recipe["data"]["batch_size"] = 50
    with pytest.raises(DataError, match=r"12 frames but data\.batch_size is 50"):
        training_loader(config_from_dict(recipe))
