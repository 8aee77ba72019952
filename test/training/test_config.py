from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(RECIPES.glob("*.yaml")) if not path.stem.startswith("base")]
)
def test_every_recipe_in_the_project_resolves(name: str) -> None:
    assert load_config(RECIPES / f"{name}.yaml", ["data.root=somewhere"]).name == name
