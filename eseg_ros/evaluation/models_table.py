"""The table of docs/models.md, made from what was measured: `python -m eseg_ros.evaluation.models_table`.

Parameters, multiply-adds and strides come from the zoo; latencies and sizes from docs/benchmarks/models.json, which
`eseg bench --model all` writes; accuracy from the runs kept in docs/training; the papers' figures stand here. What was
not measured is an empty cell.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.bench_plot import Point, accuracy_svg
from eseg_ros.evaluation.bench_subjects import MEASURED_CLASSES
from eseg_ros.share import share_folder

DOCUMENT = Path("docs/models.md")
PICTURE = Path("docs/images/models.svg")
MEASURED = Path("docs/benchmarks/models.json")
RUNS = Path("docs/training")

BEGIN = "<!-- table: made by `python -m eseg_ros.evaluation.models_table` -->"
END = "<!-- end of the table -->"

BUDGET = "same_budget_eseg_lite_s"
"""A run of RUNS. Runs of the same recipe but for the model are comparable; their scores stand in the table."""

SCORE = "camvid/miou"

PAPERS: dict[str, str] = {
    "eseg_lite_s": "17 G; 76.0 %; 189 /s",
    "eseg_lite_m": "78.6 %; 125 /s",
    "eseg_lite_l": "80.1 %; 79 /s",
    "eseg_s": "6.9 M; 34.5 G; 80.1 %",
    "eseg_m": "20.0 M; 112 G; 81.6 %",
    "eseg_l": "70.5 M; 343 G; 82.6 %",
    "fast_scnn": "1.11 M; 68.0 % (test); 123.5 /s",
    "mfaranet": "13.0 M; 78.2 %",
    "mfaranet_pruned": "77.9 %",
}
"""What each model's paper says: parameters, multiply-adds, Cityscapes `val` mIoU, frames a second."""

LATENCIES = {
    "OpenVINO fp32": ("openvino", "fp32"),
    "bf16": ("openvino", "bf16"),
    "int8": ("openvino", "int8"),
    "ONNX Runtime fp32": ("onnxruntime", "fp32"),
}
"""Column -> runtime and precision of a measurement."""


def table_lines(measured: Mapping[str, Any] | None, accuracy: Mapping[str, tuple[str, float]]) -> list[str]:
    """The table, a line a model, and what it was measured with.

    Args:
        measured: a report of `eseg bench --model`; None: nothing was measured.
        accuracy: model -> run and mIoU, see `same_budget_scores`.

    Raises:
        EsegError: the report has a model at several sizes.
    """
    import torch

    from eseg_ros.models.zoo import MODELS

    inference = inference_ms(measured)
    megabytes = {} if measured is None else _file_sizes(measured)
    columns = ("model", "parameters", "MACs", "stride", "CamVid mIoU", *LATENCIES, "engine", "in its paper")
    rows = [columns, ("---",) * len(columns)]
    for model, row in MODELS.items():
        with torch.device("meta"):
            stride = row.build(MEASURED_CLASSES).stride
        run, score = accuracy.get(model, ("", 0.0))
        rows.append(
            (
                f"`{model}`",
                f"{row.parameters:.2f} M",
                f"{row.macs:.2f} G",
                str(stride),
                f"[{score:.3f}](training/{run})" if run else "",
                *(_cell(inference.get((model, *key)), ".1f") for key in LATENCIES.values()),
                _cell(megabytes.get(model), ".1f", " MB"),
                PAPERS.get(model, ""),
            )
        )
    return [f"| {' | '.join(row)} |" for row in rows] + ["", *_explanation(measured, accuracy)]


def _explanation(measured: Mapping[str, Any] | None, accuracy: Mapping[str, tuple[str, float]]) -> list[str]:
    words = (
        f"Parameters and multiply-adds (MACs, of convolutions): the form for inference, {MEASURED_CLASSES} classes, "
        "images of 1024x2048; tests hold them. CamVid mIoU: the best on `val`, of the averaged weights, among the runs "
        f"with one recipe but for the model, that of [{BUDGET}](training/{BUDGET}); the link is the run. In its paper: "
        "parameters, MACs, Cityscapes `val` mIoU and frames a second, of the authors' weights on their machines "
        "(ESeg-Lite: V100, TensorRT; Fast-SCNN: Titan Xp)."
    )
    if measured is not None:
        (size,) = {result["input"] for result in measured["configurations"]}
        devices = dict.fromkeys(result["device"] for result in measured["configurations"])
        words += (
            f" Latencies: median milliseconds of an inference, input {size}, all measured in turn by "
            f"`{measured['command']}` on {measured['machine']}, load before {measured['load']:.1f}, "
            f"{measured['date'][:10]}: {'; '.join(devices)}. Engine: its fp32 file."
        )
    lines = textwrap.wrap(words, 118, break_long_words=False, break_on_hyphens=False)
    return lines + (["", "![CamVid mIoU over latency](images/models.svg)"] if has_picture(measured, accuracy) else [])


def inference_ms(measured: Mapping[str, Any] | None) -> dict[tuple[str, str, str], float]:
    """(model, runtime, precision) -> median milliseconds of an inference.

    Raises:
        EsegError: the report has a model at several sizes.
    """
    results = [] if measured is None else measured["configurations"]
    if len({result["input"] for result in results}) > 1:
        raise EsegError(
            f"{MEASURED} has several input sizes, and the table has room for one: measure again with one --size"
        )
    return {
        (result["model"], result["runtime"], result["precision"]): result["inference_ms"]["median"]
        for result in results
    }


def _file_sizes(measured: Mapping[str, Any]) -> dict[str, float]:
    """Model -> megabytes of its fp32 engine."""
    return {r["model"]: r["file_mb"] for r in measured["configurations"] if r["precision"] == "fp32"}


def same_budget_scores(runs: Path, budget: str = BUDGET) -> dict[str, tuple[str, float]]:
    """The best mIoU on CamVid's `val` of every run of a folder that shares a recipe but for the model.

    Args:
        runs: holds a folder a run: config.yaml and metrics.jsonl, as `eseg train` writes them.
        budget: the run whose recipe it is.

    Returns:
        Model -> run and mIoU; of several runs of a model the best.
    """
    import yaml

    configs = {
        path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(runs.glob("*/config.yaml"))
    }
    recipe = _recipe(configs.get(budget, {}))
    found: dict[str, tuple[str, float]] = {}
    for run, config in configs.items():
        if _recipe(config) != recipe:
            continue
        lines = (runs / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        scores = [scored[SCORE] for line in lines if SCORE in (scored := json.loads(line).get("scores", {}))]
        if scores and max(scores) > found.get(config["model"], ("", 0.0))[1]:
            found[config["model"]] = (run, max(scores))
    return found


def _recipe(config: dict[str, Any]) -> dict[str, Any]:
    """What runs of one recipe have in common; keys that were not there yet when a run was made have their defaults.

    In how many parts a batch is accumulated is a matter of the machine's memory.
    """
    from eseg_ros.training.config import config_from_dict, config_to_dict

    whole = config_to_dict(config_from_dict(config))
    return {key: value for key, value in whole.items() if key not in ("name", "model", "out", "accumulate")}


def has_picture(measured: Mapping[str, Any] | None, accuracy: Mapping[str, tuple[str, float]]) -> bool:
    """Whether at least two models have both an accuracy and a latency."""
    return len(_points(measured, accuracy)) > 1


def picture(measured: Mapping[str, Any], accuracy: Mapping[str, tuple[str, float]]) -> str:
    """CamVid mIoU over the latency of the fp32 engine in OpenVINO, as SVG."""
    device = next(r["device"] for r in measured["configurations"] if r["runtime"] == "openvino")
    size = measured["configurations"][0]["input"]
    return accuracy_svg(
        _points(measured, accuracy),
        "CamVid accuracy over latency, one recipe for all",
        f"latency of an inference at {size}, ms (OpenVINO fp32)",
        "mIoU on camvid/val, %",
        [f"{measured['machine']}; {device}", f"{measured['date'][:10]}; load before {measured['load']:.1f}"],
    )


def _points(measured: Mapping[str, Any] | None, accuracy: Mapping[str, tuple[str, float]]) -> list[Point]:
    inference = inference_ms(measured)
    keys = {model: (model, "openvino", "fp32") for model in accuracy}
    return [
        Point(model, inference[keys[model]], score)
        for model, (_, score) in accuracy.items()
        if keys[model] in inference
    ]


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def with_table(document: str, lines: list[str]) -> str:
    """The document with other lines between BEGIN and END.

    Raises:
        EsegError: the document has no such lines.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise EsegError(f"{DOCUMENT} has no lines to put the table between; write:\n{BEGIN}\n{END}")
    return "\n".join([before + begin, "", *lines, "", end + after])


def made_files(root: Path) -> dict[Path, str]:
    """Path below `root`, the sources -> what it must hold for what was measured; the table's document first."""
    path = root / MEASURED
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    accuracy = same_budget_scores(root / RUNS)
    document = (root / DOCUMENT).read_text(encoding="utf-8")
    made = {DOCUMENT: with_table(document, table_lines(measured, accuracy))}
    if measured is not None and has_picture(measured, accuracy):
        made[PICTURE] = picture(measured, accuracy)
    return made


def main() -> int:
    """Write the files."""
    from eseg_ros.engine.manifest import write_atomically

    root = share_folder()
    try:
        made = made_files(root)
    except (EsegError, FileNotFoundError) as error:
        print(f"models_table: {error}", file=sys.stderr)
        return 1
    for path, text in made.items():
        write_atomically(root / path, text.encode())
        print(root / path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
