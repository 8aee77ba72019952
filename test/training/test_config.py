from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eseg_ros.data.class_file import find_class_set
from eseg_ros.models.zoo import build_model
from eseg_ros.training.config import (
    ConfigError,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)

RECIPES = Path(__file__).parents[2] / "config" / "train"


def test_a_recipe_takes_from_its_base_what_it_does_not_say(tmp_path: Path, recipe: dict[str, Any]) -> None:
    (tmp_path / "base.yaml").write_text(
        "{model: eseg_lite_s, classes: camvid, epochs: 5, augment: {crop: [64, 96], flip: 0.5}}"
    )
    (tmp_path / "mine.yaml").write_text("{base: base.yaml, data: {root: here}, augment: {flip: 0.25}}")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.epochs, config.augment.crop, config.augment.flip) == (5, (64, 96), 0.25)
    assert config.name == "mine"


def test_a_circle_of_bases_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(ConfigError, match=r"its own base through a\.yaml -> b\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_overrides_reach_nested_keys_and_list_positions() -> None:
    config = load_config(
        RECIPES / "eseg_lite_s_street.yaml",
        ["optimizer.lr=1e-4", "data.train.1.repeat=0.5", "data.validate.1.split=test", "out=/tmp/elsewhere"],
    )
    assert config.optimizer.lr == 1e-4
    assert config.data.train[1].repeat == 0.5
    assert config.data.validate[1].split == "test"
    assert config.run_dir == Path("/tmp/elsewhere/eseg_lite_s_street")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.wieght_decay=1", "optimizer.wieght_decay: unknown key; the nearest is 'weight_decay'"),
        ("epochs=many", "epochs: expected int, found 'many'"),
        ("epochs=true", "epochs: expected int, found True"),
        ("optimizer.lr=fast", "optimizer.lr: expected float, found 'fast'"),
        ("optimizer.name=adam", "optimizer.name: expected sgd or adamw, found 'adam'"),
        ("augment.crop=[64]", "augment.crop: expected 2 values, found 1"),
        ("augment.crop=64", "augment.crop: expected a list, found 64"),
        ("augment=3", "augment: expected keys and values, found 3"),
        ("data.train.7.repeat=1", "data.train.7: expected a position from 0 to 0, found '7'"),
        ("data.train.0.repeat=0", "every repeat must be above 0"),
        ("data.validate=[]", "data.validate: expected at least one set"),
        ("data.validate=[{name: a}, {name: a}]", "names must differ"),
        ("validate_every=7", "validate_every: expected a divisor of epochs"),
        ("fixed_statistics=-1", r"fixed_statistics: expected 0 to epochs \(120\)"),
        ("fixed_statistics=121", r"fixed_statistics: expected 0 to epochs \(120\)"),
        ("classes=moon", "classes: 'moon' is neither a file"),
        ("loss.class_weights=[1, 2]", "expected 11 numbers above 0, one for each class of camvid"),
        ("optimizer.nesterov=true", "needs name sgd"),
        ("epochs.lower=3", "plain value"),
        ("epochs", "expected key=value"),
        ("data.root=null", "data.root: not set"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_an_error_that_names_key_and_expectation(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(RECIPES / "eseg_lite_s_camvid.yaml", [override])


def test_a_missing_key_without_default_is_named(recipe: dict[str, Any]) -> None:
    del recipe["augment"]["crop"]
    with pytest.raises(ConfigError, match=r"augment\.crop: missing"):
        config_from_dict(recipe)


def test_a_missing_file_is_an_error_that_says_where_recipes_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipes are in config/train/"):
        load_config(tmp_path / "none.yaml")


def test_a_recipe_survives_the_way_through_a_dictionary_and_through_yaml(config: TrainConfig, tmp_path: Path) -> None:
    assert config_from_dict(config_to_dict(config)) == config
    (tmp_path / "saved.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "saved.yaml") == config


def test_precision_may_be_written_as_a_number(recipe: dict[str, Any]) -> None:
    assert config_from_dict({**recipe, "precision": 32}).precision == "32"


RECIPE_NAMES = [path.stem for path in sorted(RECIPES.glob("*.yaml")) if not path.stem.startswith("base")]


def resolved(name: str, tmp_path: Path) -> TrainConfig:
    """A recipe of the project; where the data set brings its classes, with some of them."""
    overrides = ["data.root=somewhere"]
    if "ade20k" in name or "mapillary" in name:
        names = tmp_path / "classes.yaml"
        names.write_text("classes: [wall, floor, sky]")
        overrides.append(f"classes={names}")
    return load_config(RECIPES / f"{name}.yaml", overrides)


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_every_recipe_in_the_project_resolves_and_its_model_is_built(name: str, tmp_path: Path) -> None:
    config = resolved(name, tmp_path)
    with torch.device("meta"):
        network = build_model(config.model, len(find_class_set(config.classes)))
    assert config.name == name
    assert [part for part in config.freeze if part not in dict(network.named_modules())] == []


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_every_recipe_changes_another_one(name: str) -> None:
    tree = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    assert (RECIPES / tree["base"]).is_file()


def test_the_papers_90000_steps_are_the_recipes_epochs(tmp_path: Path) -> None:
    config = resolved("eseg_s_cityscapes", tmp_path)
    steps = config.epochs * (2975 / config.data.batch_size)
    assert steps == pytest.approx(90_000, rel=0.001)


def test_self_training_shows_as_many_pseudo_labeled_frames_as_labeled_ones(tmp_path: Path) -> None:
    labeled, pseudo = resolved("eseg_s_cityscapes_selftraining", tmp_path).data.train
    assert round(19_998 * pseudo.repeat) == round(2975 * labeled.repeat)
