"""The shipped engines: whole, scored, and as good as their manifests say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine.manifest import load_engine
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.offline import evaluate
from eseg_ros.labels import CAMVID
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Result

ROOT = Path(__file__).parents[1]
ENGINES = sorted((ROOT / "engines").glob("*.json"))
CAMVID_ROOT = ROOT.parent / "shared" / "datasets" / "camvid"
UNSEEN_SEED = 1_000_000
"""Far from the seeds that the recipes render with."""

NAMED_BY_README = {
    "eseg_lite_s_street",
    "eseg_lite_s_camvid",
    "eseg_lite_s_camvid_trainval",
    "eseg_lite_fast_camvid",
    "eseg_lite_m_camvid_fp16",
    "eseg_lite_m_camvid_trainval_fp16",
    "fast_scnn_camvid",
    "eseg_mobile_camvid",
    "eseg_mobile_camvid_trainval",
}


def test_the_engines_that_the_readme_names_are_shipped() -> None:
    assert {path.stem for path in ENGINES} >= NAMED_BY_README


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)
def test_an_engine_is_whole_and_says_how_it_was_trained_and_what_it_scores(path: Path) -> None:
    manifest = load_engine(path).manifest

    assert manifest.classes == CAMVID
    assert manifest.training["recipe"]["model"] == manifest.model
    for score in manifest.scores.values():
        assert set(score["per_class_iou"]) == set(manifest.classes.names)
        assert score["command"].startswith(f"eseg evaluate --engine engines/{path.name} --data ")
    # A score on frames that it was trained on would say nothing.
    assert ("camvid/val" in manifest.scores) is not trained_on_val(path)


def trained_on_val(path: Path) -> bool:
    return any(source["split"] == "val" for source in load_engine(path).manifest.training["recipe"]["data"]["train"])


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)
def test_an_engines_name_says_whether_it_was_trained_on_val(path: Path) -> None:
    assert ("_trainval" in path.stem) is trained_on_val(path)


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)
def test_the_documents_have_the_figures_of_the_manifest(path: Path) -> None:
    manifest = load_engine(path).manifest
    score = manifest.scores.get("camvid/val")
    if path.stem in NAMED_BY_README and score is not None:
        assert f"{score['miou']:.3f}" in table_rows(ROOT / "README.md")[path.stem]
    verified = manifest.parity.get("camvid/val")
    if verified is not None and score is not None:
        assert table_rows(ROOT / "docs" / "quantization.md").get(path.stem) == [
            f"{100 * verified['agreement']:.2f} %",
            f"{100 * verified['worst_frames'][0]['agreement']:.2f} %",
            f"{100 * score['miou']:.2f}",
            f"{100 * score['miou'] + verified['miou_drop']:.2f}",
        ]


def table_rows(document: Path) -> dict[str, list[str]]:
    """First name in backquotes of a table's row -> its other cells."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\|(.*)\|$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@pytest.mark.skipif(not CAMVID_ROOT.is_dir(), reason=f"CamVid is not at {CAMVID_ROOT}")
@pytest.mark.parametrize("path", [path for path in ENGINES if not trained_on_val(path)], ids=lambda path: path.stem)
def test_an_engine_scores_on_camvid_what_its_manifest_says(path: Path) -> None:
    recorded = load_engine(path).manifest.scores["camvid/val"]

    measured = evaluate(path, CAMVID_ROOT, "val")

    assert measured["miou"] == pytest.approx(recorded["miou"], abs=0.002)
    assert measured["frames"] == recorded["frames"] == 101


def test_the_default_engine_knows_rendered_streets_that_it_has_never_seen() -> None:
    engine = load_engine(ROOT / "engines" / "eseg_lite_s_street.json")

    miou = rendered_miou(engine, frames=12)

    # Twelve frames scatter; a wrong colour order or a wrong resize would fall far below.
    assert miou == pytest.approx(engine.manifest.scores["rendered/val"]["miou"], abs=0.08)


def rendered_miou(engine: Any, frames: int) -> float:
    rendered = [render_frame((UNSEEN_SEED, index), 480, 360) for index in range(frames)]
    sent = [Frame(scene.image.data.cast("B"), "bgr8", 480, 360, 3 * 480, scene.stamp_ns) for scene in rendered]
    confusion = ConfusionMatrix(len(CAMVID))
    with Pipeline(create_runtime(engine)) as pipeline:
        for scene, result in zip(rendered, pipeline.map(sent), strict=True):
            assert isinstance(result, Result)
            confusion.update(result.mask, scene.label)
    return confusion.miou()
