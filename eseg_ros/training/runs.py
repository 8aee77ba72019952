"""Training runs as they lie on disk: their recipes, their curves, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eseg_ros.errors import EsegError
from eseg_ros.text_table import aligned_columns

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
BEST_CHECKPOINT = "best.ckpt"


class RunError(EsegError):
    """A folder that holds no training run, or one that cannot be read."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run, finished or not.

    Attributes:
        path: its folder.
        recipe: the resolved recipe, as it was written then, with dotted keys: "optimizer.lr".
        epochs: the entries of metrics.jsonl, see `RunLog`; at least one.
    """

    path: Path
    recipe: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    @property
    def sets(self) -> list[str]:
        """Names of the validation sets."""
        names = [name.split("/")[0] for entry in self.epochs for name in entry.get("scores", {})]
        return list(dict.fromkeys(names))

    def best(self) -> Mapping[str, Any] | None:
        """The entry of the epoch that best.ckpt was written in: that of the first highest mean mIoU."""
        scored = [entry for entry in self.epochs if entry.get("scores")]
        return max(scored, key=self._mean_miou, default=None)

    def miou(self, entry: Mapping[str, Any], name: str) -> float:
        """mIoU of an epoch on the validation set called `name`; NaN where it was not validated."""
        score = entry.get("scores", {}).get(f"{name}/miou")
        return float("nan") if score is None else float(score)

    def _mean_miou(self, entry: Mapping[str, Any]) -> float:
        return sum(self.miou(entry, name) for name in self.sets) / len(self.sets)

    @property
    def hours(self) -> float:
        """Of training and validation, without pauses between resumed parts."""
        return sum(float(entry["seconds"]) for entry in self.epochs) / 3600


def read_run(path: Path) -> TrainingRun:
    """The run in a folder.

    Raises:
        RunError: no run there, or one whose files cannot be read.
    """
    try:
        tree = yaml.safe_load((path / CONFIG_FILE).read_text(encoding="utf-8"))
        lines = (path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: no training run, it has no {Path(error.filename).name}; eseg train makes runs in runs/NAME"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path}: cannot be read as a training run: {error}") from None
    if not epochs:
        raise RunError(f"{path}: no epoch of this run is finished yet")
    return TrainingRun(path, _dotted(tree), epochs)


def find_runs(folders: Sequence[Path]) -> list[TrainingRun]:
    """The runs that the folders are or hold, those that began first in front.

    Raises:
        RunError: a folder neither is a run nor holds one.
    """
    runs: list[TrainingRun] = []
    for folder in folders:
        paths = (
            [folder]
            if (folder / METRICS_FILE).is_file()
            else [file.parent for file in folder.glob(f"*/{METRICS_FILE}")]
        )
        if not paths:
            raise RunError(f"{folder}: neither a training run nor a folder of them; eseg train makes runs in runs/NAME")
        runs += [read_run(path) for path in paths]
    return sorted(runs, key=lambda run: str(run.epochs[0]["time"]))


def runs_table(runs: Sequence[TrainingRun]) -> str:
    """A line a run, under a head."""
    head = ("run", "model", "epochs", "best mIoU", "at", "lr", "batch", "hours", "last epoch")
    rows = [head]
    for run in runs:
        best = run.best()
        scores = "-" if best is None else ", ".join(f"{name} {run.miou(best, name):.3f}" for name in run.sets)
        recipe = run.recipe
        rows.append((
            run.path.name,
            str(recipe["model"]),
            f"{run.epochs[-1]['epoch']}/{recipe['epochs']}",
            scores,
            "-" if best is None else str(best["epoch"]),
            f"{float(recipe['optimizer.lr']):g}",
            str(recipe["data.batch_size"]),
            f"{run.hours:.1f}",
            str(run.epochs[-1]["time"])[:16].replace("T", " "),
        ))  # fmt: skip
    return "\n".join(aligned_columns(rows))


def differences_table(runs: Sequence[TrainingRun]) -> str:
    """A line for each key that the recipes do not agree on, a column a run; "-" where a recipe has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.recipe if key != "name")
    values = {key: [_text(run.recipe.get(key)) for run in runs] for key in keys}
    rows = [("key", *(run.path.name for run in runs))]
    rows += [(key, *texts) for key, texts in values.items() if len(set(texts)) > 1]
    return "\n".join(aligned_columns(rows)) if len(rows) > 1 else "the recipes are equal"


def _dotted(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree of mappings, and of lists of mappings, under dotted keys."""
    if isinstance(tree, list) and tree and all(isinstance(item, dict) for item in tree):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
