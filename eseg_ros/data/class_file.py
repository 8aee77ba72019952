"""Class sets from files, for data sets whose classes are the user's own or come with the data."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import yaml

from eseg_ros.data.reading import DataError
from eseg_ros.labels import CLASS_SETS, ClassSet, class_set

Color = tuple[int, int, int]


def find_class_set(name: str) -> ClassSet:
    """A known class set by its name, or one from a file.

    Files are read by what they hold: YAML or JSON as docs/training.md describes it, the `config_v*.json` of Mapillary
    Vistas, the `objectInfo150.txt` of ADE20K, or plain text with one name a line.

    Args:
        name: a name of `labels.CLASS_SETS`, or a path.

    Raises:
        DataError: neither; or the file cannot be read as one.
    """
    path = Path(name)
    if name in CLASS_SETS:
        return class_set(name)
    if not path.is_file():
        raise DataError(f"classes: {name!r} is neither a file nor one of {', '.join(CLASS_SETS)}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".json", ".yaml", ".yml"):
            return _from_tree(path.stem, json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
        return _from_text(path.stem, text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a class file: {error}; its forms are in docs/training.md") from None


def distinct_color(index: int) -> Color:
    """The color of class `index` where none is given: the bits of the index spread over the channels' high bits.

    The color map of the PASCAL VOC development kit (Everingham et al. 2010), without its black first entry.
    """
    red = green = blue = 0
    rest = index + 1
    for bit in range(7, -1, -1):
        red |= (rest & 1) << bit
        green |= (rest >> 1 & 1) << bit
        blue |= (rest >> 2 & 1) << bit
        rest >>= 3
    return red, green, blue


def _from_tree(name: str, tree: Any) -> ClassSet:
    if not isinstance(tree, dict):
        raise ValueError(f"expected a mapping, found {type(tree).__name__}")
    if "labels" in tree:
        return _from_mapillary(name, tree)
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in tree["classes"]]
    return ClassSet(
        name=str(tree.get("name", name)),
        names=tuple(str(entry["name"]) for entry in entries),
        palette=tuple(_color(entry.get("color") or distinct_color(i)) for i, entry in enumerate(entries)),
        ignore_id=int(tree.get("ignore_id", 255)),
    )


def _from_mapillary(name: str, tree: dict[str, Any]) -> ClassSet:
    """Its labels in order; those behind the last one that is evaluated are ignored ones."""
    labels = tree["labels"]
    last = max(i for i, label in enumerate(labels) if label["evaluate"])
    return ClassSet(
        name="mapillary_v" + str(tree["version"]) if "version" in tree else name,
        names=tuple(str(label["name"]) for label in labels[: last + 1]),
        palette=tuple(_color(label["color"]) for label in labels[: last + 1]),
    )


def _from_text(name: str, text: str) -> ClassSet:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and lines[0].split()[:2] == ["Idx", "Ratio"]:  # ADE20K: Idx Ratio Train Val Name, tabs between
        names = [row["Name"].partition(",")[0].strip() for row in csv.DictReader(io.StringIO(text), delimiter="\t")]
        name, lines = "ade20k", names
    return ClassSet(name=name, names=tuple(lines), palette=tuple(distinct_color(i) for i in range(len(lines))))


def _color(values: Any) -> Color:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
