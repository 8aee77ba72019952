from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine.manifest import (
    EngineManifest,
    InputSpec,
    OutputSpec,
    load_engine,
    manifest_path_of,
    portable_path,
    sha256_of,
    write_atomically,
    write_manifest,
)
from eseg_ros.errors import EngineError
from eseg_ros.labels import CAMVID


@pytest.fixture
def manifest(tmp_path: Path) -> EngineManifest:
    """An engine's manifest whose ONNX file (any bytes: the manifest does not look inside) lies in tmp_path."""
    onnx = tmp_path / "engine.v1.onnx"
    onnx.write_bytes(bytes(range(256)))
    return EngineManifest(
        name="engine.v1",
        model="eseg_lite_s",
        classes=CAMVID,
        input=InputSpec("image", 480, 360, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        output=OutputSpec("logits", stride=8, width=60, height=45),
        precision="fp32",
        onnx_file=onnx.name,
        onnx_sha256=sha256_of(onnx),
        opset=18,
        training={"epochs": 100},
        scores={"camvid/val": {"miou": 0.7}},
        parity={"frames": 4},
    )


def test_a_written_engine_loads_as_it_was(manifest: EngineManifest, tmp_path: Path) -> None:
    engine = load_engine(write_manifest(manifest, tmp_path))
    assert engine.manifest == manifest
    assert engine.onnx == tmp_path / "engine.v1.onnx"


@pytest.mark.parametrize("given", ["engine.v1.json", "engine.v1.onnx", "engine.v1"])
def test_an_engine_is_named_by_either_file_or_by_their_stem(given: str) -> None:
    assert manifest_path_of(Path("engines") / given) == Path("engines/engine.v1.json")


def test_a_missing_manifest_lists_the_engines_there_are(manifest: EngineManifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path)
    with pytest.raises(EngineError, match=r"other\.json cannot be read.*Engines here: engine\.v1"):
        load_engine(tmp_path / "other.json")


def test_a_missing_onnx_file_is_named(manifest: EngineManifest, tmp_path: Path) -> None:
    path = write_manifest(manifest, tmp_path)
    (tmp_path / "engine.v1.onnx").unlink()
    with pytest.raises(EngineError, match=r"names engine\.v1\.onnx, which cannot be read"):
        load_engine(path)


def test_a_cut_onnx_file_is_found_before_it_is_run(manifest: EngineManifest, tmp_path: Path) -> None:
    path = write_manifest(manifest, tmp_path)
    onnx = tmp_path / "engine.v1.onnx"
    onnx.write_bytes(onnx.read_bytes()[:100])
    with pytest.raises(EngineError, match=r"100 bytes.*cut or belongs to another engine"):
        load_engine(path)


def test_another_engines_onnx_file_is_refused(manifest: EngineManifest, tmp_path: Path) -> None:
    path = write_manifest(manifest, tmp_path)
    (tmp_path / "engine.v1.onnx").write_bytes(bytes(256))
    with pytest.raises(EngineError, match="cut or belongs to another engine"):
        load_engine(path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"'])
def test_a_manifest_that_is_no_manifest_is_refused_and_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=r"engine\.json.*eseg export"):
        load_engine(path)


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="cannot be read"):
        load_engine(path)


def set_schema(values: dict[str, Any]) -> None:
    values["schema"] = 2


def drop_schema(values: dict[str, Any]) -> None:
    del values["schema"]


@pytest.mark.parametrize("change", [set_schema, drop_schema])
def test_another_schema_is_refused(change: Callable[[dict[str, Any]], None], manifest: EngineManifest) -> None:
    values = json.loads(manifest.to_json())
    change(values)
    with pytest.raises(EngineError, match="this version reads schema 1"):
        EngineManifest.from_json(json.dumps(values))


@pytest.mark.parametrize("place", [(), ("input",), ("output",)])
def test_an_unknown_key_is_refused(place: tuple[str, ...], manifest: EngineManifest) -> None:
    values = json.loads(manifest.to_json())
    part = values
    for key in place:
        part = part[key]
    part["surprise"] = 1
    with pytest.raises(EngineError, match="surprise"):
        EngineManifest.from_json(json.dumps(values))


@pytest.mark.parametrize("key", ["name", "classes", "input", "output", "precision", "onnx_sha256"])
def test_a_missing_key_is_named(key: str, manifest: EngineManifest) -> None:
    values = json.loads(manifest.to_json())
    del values[key]
    with pytest.raises(EngineError, match=key):
        EngineManifest.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("", "precision", "int4"),
        ("", "onnx_file", "../elsewhere.onnx"),
        ("input", "width", 32),
        ("input", "resize", "crop"),
        ("input", "color_order", "yuv"),
        ("input", "mean", [0.5]),
        ("input", "mean", None),
        ("input", "std", [0.2, 0.2, 0.0]),
        ("output", "kind", "boxes"),
        ("classes", "palette", [[0, 0, 0]]),
        ("classes", "names", ["road", "road"]),
    ],
)
def test_a_value_out_of_its_range_is_refused(place: str, key: str, value: object, manifest: EngineManifest) -> None:
    values = json.loads(manifest.to_json())
    (values[place] if place else values)[key] = value
    with pytest.raises(EngineError, match="does not fit schema 1"):
        EngineManifest.from_json(json.dumps(values))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_manifest_keeps_relative_paths_and_of_absolute_ones_the_name() -> None:
    assert portable_path(Path("../shared/camvid")) == "../shared/camvid"
    assert portable_path(Path("/home/somebody/camvid")) == "camvid"
