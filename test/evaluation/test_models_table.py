from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.models_table import (
    BEGIN,
    END,
    MEASURED,
    PAPERS,
    inference_ms,
    made_files,
    picture,
    same_budget_scores,
    table_lines,
    with_table,
)
from eseg_ros.models.zoo import MODELS
from eseg_ros.training.config import TrainConfig, config_to_yaml, load_config

ROOT = Path(__file__).parents[2]
CONFIG = load_config(ROOT / "config" / "train" / "eseg_lite_s_camvid.yaml", ["name=base"])


def measurement(model: str, runtime: str = "openvino", precision: str = "fp32", ms: float = 12.34) -> dict[str, Any]:
    return {
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "input": "480x360",
        "device": f"CPU, {runtime}",
        "file_mb": 14.4,
        "inference_ms": {"median": ms, "p95": 2 * ms},
    }


def report(*configurations: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": "a machine",
        "load": 0.1,
        "date": "2026-11-21T10:00:00+00:00",
        "command": "eseg bench --model all",
        "configurations": list(configurations),
    }


def write_run(folder: Path, config: TrainConfig, *scores: float) -> None:
    run = folder / config.name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config_to_yaml(config))
    lines = [{"epoch": 1, "loss": 1.0}, *({"epoch": 5, "scores": {"camvid/miou": score}} for score in scores)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def cells_of(lines: list[str], model: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(f"| `{model}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_in_the_documentation_is_what_was_measured() -> None:
    for path, text in made_files(ROOT).items():
        committed = (ROOT / path).read_text(encoding="utf-8")
        assert committed == text, f"{path} is not what the data give; run: python -m eseg_ros.evaluation.models_table"


def test_every_model_has_a_line_and_an_empty_cell_for_what_was_not_measured() -> None:
    lines = table_lines(None, {})
    for model, row in MODELS.items():
        cells = cells_of(lines, model)
        assert cells[1:3] == [f"{row.parameters:.2f} M", f"{row.macs:.2f} G"]
        assert cells[4:10] == [""] * 6


def test_every_papers_figures_belong_to_a_model() -> None:
    assert PAPERS.keys() <= MODELS.keys()


def test_a_measurement_stands_in_the_column_of_its_runtime_and_precision() -> None:
    measured = report(
        measurement("fast_scnn", "openvino", "bf16", 3.21),
        measurement("fast_scnn", "onnxruntime", "fp32", 6.54),
        measurement("fast_scnn", "onnxruntime", "int8", 9.87),
    )
    lines = table_lines(measured, {"fast_scnn": ("fast_scnn_camvid", 0.5432)})
    assert cells_of(lines, "fast_scnn")[4:10] == [
        "[0.543](training/fast_scnn_camvid)",
        *("", "3.2", "", "6.5"),
        "14.4 MB",
    ]
    assert "`eseg bench --model all`" in " ".join(lines)


def test_the_best_score_counts_of_runs_that_differ_in_the_model_alone(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, 0.5, 0.6, 0.55)
    write_run(tmp_path, replace(CONFIG, name="other", model="fast_scnn", accumulate=2, out=Path("elsewhere")), 0.4)
    write_run(tmp_path, replace(CONFIG, name="longer", model="mfaranet", epochs=20), 0.7)
    write_run(tmp_path, replace(CONFIG, name="unfinished", model="eseg_s"))
    assert same_budget_scores(tmp_path, "base") == {"eseg_lite_s": ("base", 0.6), "fast_scnn": ("other", 0.4)}


def test_a_run_of_before_a_key_existed_has_its_default(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, 0.5)
    write_run(tmp_path, replace(CONFIG, name="other", model="fast_scnn"), 0.4)
    path = tmp_path / "base" / "config.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("freeze:")]
    path.write_text("\n".join(kept))
    assert same_budget_scores(tmp_path, "base").keys() == {"eseg_lite_s", "fast_scnn"}


def test_two_models_with_accuracy_and_latency_make_a_picture(tmp_path: Path) -> None:
    accuracy = {"eseg_lite_s": ("a", 0.6), "fast_scnn": ("b", 0.5), "mfaranet": ("c", 0.7)}
    measured = report(measurement("eseg_lite_s"), measurement("fast_scnn", ms=4.0))
    assert "(images/models.svg)" in table_lines(measured, accuracy)[-1]
    assert "(images/models.svg)" not in table_lines(report(measurement("fast_scnn")), accuracy)[-1]
    svg = picture(measured, accuracy)
    assert all(f">{model}</text>" in svg for model in ("eseg_lite_s", "fast_scnn"))
    assert "mfaranet" not in svg


def test_measurements_at_several_sizes_do_not_fit_the_table() -> None:
    other = {**measurement("fast_scnn"), "input": "1024x512"}
    with pytest.raises(EsegError, match=f"{MEASURED} has several input sizes"):
        inference_ms(report(measurement("fast_scnn"), other))


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(document, ["new"]) == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_table(with_table(document, ["new"]), ["new"]) == with_table(document, ["new"])
    with pytest.raises(EsegError, match="no lines to put the table between"):
        with_table("before", ["new"])
