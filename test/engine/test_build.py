"""`eseg build`: which engine is built, what is said, and what is refused before anything is built."""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine import build_command
from eseg_ros.engine.build import BuildBar, engine_of_precision
from eseg_ros.engine.manifest import Engine, load_engine, write_manifest
from eseg_ros.engine.plan import BuildOptions, Machine, Plan
from eseg_ros.engine.plan_cache import find_or_store, record_parity, scan
from eseg_ros.errors import EngineError, RuntimeUnavailableError
from eseg_ros.runtime.tensorrt import api

ORIN = Machine("tensorrt", "10.3.0", ("8.7",), "Orin", "12.6")
THOR = Machine("tensorrt", "10.16.1", ("11.0",), "Thor", "13.0")

Run = Callable[..., int]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A plan cache that is not there yet."""
    return tmp_path / "plans"


@pytest.fixture
def eseg_build(cache: Path) -> Run:
    """`eseg_build("tiny.json", "--list")`: the command as `eseg` runs it, in `cache`."""

    def run(*words: object) -> int:
        parser = argparse.ArgumentParser()
        build_command.add_arguments(parser)
        return build_command.run(parser.parse_args([*map(str, words), "--cache", str(cache)]))

    return run


@pytest.fixture
def on_orin(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10.3.0 on an Orin, whose builder takes the ONNX file's hash for a plan."""

    def serialize(trt: Any, engine: Engine, *_: object) -> bytes:
        return hashlib.sha256(engine.onnx.read_bytes()).digest()

    def imported(target: str) -> object:
        if target == "rtx":
            raise RuntimeUnavailableError("not installed")
        return object()

    monkeypatch.setattr(api, "import_tensorrt", imported)
    monkeypatch.setattr(build_command, "this_machine", lambda trt, target: ORIN)
    monkeypatch.setattr("eseg_ros.engine.build.serialize", serialize)


def sibling(path: Path, precision: str, declared: str | None = None) -> Path:
    """A copy of an engine beside it, NAME_precision, whose manifest declares that precision or another."""
    manifest = load_engine(path).manifest
    name = f"{manifest.name}_{precision}"
    shutil.copy(path.with_suffix(".onnx"), path.with_name(f"{name}.onnx"))
    changed = replace(manifest, name=name, precision=declared or precision, onnx_file=f"{name}.onnx")
    return write_manifest(changed, path.parent)


def test_an_engine_is_built_in_the_precision_it_has(make_tiny_engine: Any) -> None:
    path = make_tiny_engine()

    assert engine_of_precision(path, None).manifest.name == "tiny"
    assert engine_of_precision(path, "fp32").manifest.name == "tiny"


def test_another_precision_is_a_sibling_in_either_direction(make_tiny_engine: Any) -> None:
    path = make_tiny_engine()
    half, quantized = sibling(path, "fp16"), sibling(path, "int8")

    assert engine_of_precision(path, "fp16").manifest.name == "tiny_fp16"
    assert engine_of_precision(half, "int8").manifest.name == "tiny_int8"
    assert engine_of_precision(quantized, "fp32").manifest.name == "tiny"
    assert engine_of_precision(half.with_suffix(".onnx"), "int8").manifest.name == "tiny_int8"


def test_a_missing_sibling_comes_with_the_command_that_makes_it(make_tiny_engine: Any) -> None:
    path = make_tiny_engine()

    with pytest.raises(EngineError) as raised:
        engine_of_precision(path, "int8")
    assert "is an fp32 engine, and its int8 sibling" in str(raised.value)
    assert str(raised.value).endswith(f"Make it: eseg quantize {path} --precision int8 --data ROOT")


def test_a_sibling_that_is_not_what_its_name_says_is_refused(make_tiny_engine: Any) -> None:
    path = make_tiny_engine()
    sibling(path, "fp16", declared="fp32")

    with pytest.raises(EngineError, match=r"tiny_fp16\.json is an fp32 engine; expected fp16"):
        engine_of_precision(path, "fp16")


@pytest.mark.usefixtures("on_orin")
def test_building_says_what_was_built_and_a_second_time_that_it_is_there(
    eseg_build: Run, tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eseg_build(tiny_engine) == 0
    first = capsys.readouterr().out
    assert eseg_build(tiny_engine) == 0
    second = capsys.readouterr().out

    assert "tiny, fp32, TensorRT 10.3.0 for compute capability 8.7 (Orin), 0.0 MB, built in " in first
    assert "there since 20" in second
    assert first.partition(":")[0] == second.partition(":")[0]


@pytest.mark.usefixtures("on_orin")
def test_options_make_a_plan_of_their_own(eseg_build: Run, tiny_engine: Path, cache: Path) -> None:
    eseg_build(tiny_engine)
    eseg_build(tiny_engine, "--workspace", 512, "--optimization-level", 5)

    options = {plan.manifest.options for plan in scan(cache)[0]}
    assert options == {BuildOptions(), BuildOptions(512, 5)}


@pytest.mark.usefixtures("on_orin")
def test_listing_tells_which_plans_run_here(
    eseg_build: Run, tiny_engine: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for machine in (ORIN, THOR, Machine("rtx", "1.7.1", ("7.5", "8.6"))):
        find_or_store(load_engine(tiny_engine), machine, BuildOptions(), cache, lambda: b"code")

    assert eseg_build("--list") == 0

    header, *rows, last = (re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert header == [
        "engine",
        "precision",
        "library",
        "compute capability",
        "GPU",
        "size",
        "built",
        "here",
        "verified",
    ]
    assert {(row[2], row[-2]) for row in rows} == {
        ("TensorRT 10.3.0", "yes"),
        ("TensorRT 10.16.1", "no"),
        ("TensorRT for RTX 1.7.1", "?"),
    }
    assert last == [f"3 plans in {cache}"]


def test_listing_tells_what_verifying_noted(
    eseg_build: Run, thor_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    eseg_build("--list")
    assert capsys.readouterr().out.splitlines()[1].endswith("  no")

    record_parity(thor_plan.path, "camvid/val", {"agreement": 0.99824, "passed": True})
    record_parity(thor_plan.path, "street/val", {"agreement": 0.5, "passed": False})
    eseg_build("--list")
    assert capsys.readouterr().out.splitlines()[1].endswith("  99.82% of camvid/val, 50.00% of street/val (failed)")


def test_listing_an_empty_cache_says_so(eseg_build: Run, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eseg_build("--list") == 0
    assert capsys.readouterr().out == f"0 plans in {cache}\n"


@pytest.fixture
def thor_plan(tiny_engine: Path, cache: Path) -> Plan:
    """A plan in the cache that does not run on an Orin."""
    return find_or_store(load_engine(tiny_engine), THOR, BuildOptions(), cache, lambda: b"code")[0]


@pytest.mark.usefixtures("on_orin")
def test_pruning_says_what_goes_and_why(
    eseg_build: Run, thor_plan: Plan, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    assert eseg_build("--prune", "--dry-run") == 0
    assert f"would remove {thor_plan.path.name}: built with {THOR}; this machine has" in capsys.readouterr().out
    assert thor_plan.path.exists()

    assert eseg_build("--prune") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("removed 0.0 MB from ")
    assert not thor_plan.path.exists()


@pytest.mark.usefixtures("on_orin")
def test_pruning_by_age_is_in_days(eseg_build: Run, tiny_engine: Path, cache: Path) -> None:
    eseg_build(tiny_engine)

    eseg_build("--prune", "--older-than", 1)
    assert len(scan(cache)[0]) == 1
    eseg_build("--prune", "--older-than", 1e-12)
    assert scan(cache)[0] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say which engine to build"),
        (("tiny.json", "--list"), "--list and --prune take none"),
        (("tiny.json", "--dry-run"), "belong to --prune"),
        (("--list", "--older-than", "3"), "belong to --prune"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(eseg_build: Run, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eseg_build(*words)


@pytest.mark.usefixtures("on_orin")
def test_gpus_are_named_only_for_rtx(eseg_build: Run, tiny_engine: Path) -> None:
    with pytest.raises(ValueError, match="--capability belongs to --target rtx"):
        eseg_build(tiny_engine, "--capability", "8.6")


def test_without_tensorrt_nothing_is_built(
    eseg_build: Run, tiny_engine: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(api._MODULES, "tensorrt", ("no_such_tensorrt",))

    with pytest.raises(RuntimeUnavailableError, match=r"TensorRT cannot be used here: .* pip install tensorrt"):
        eseg_build(tiny_engine)
    assert not cache.exists()


def test_the_bar_moves_by_the_steps_of_the_whole_build(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with BuildBar("tiny") as bar:
        bar.start("Building", None, 4)
        bar.start("Timing", "Building", 100)
        bar.step("Timing", 50)
        bar.step("Building", 1)
        bar.finish("Timing")
        bar.step("Building", 3)
        assert (bar._bar.n, bar._bar.total) == (3, 4)
    assert "Timing" in capsys.readouterr().err


def test_a_log_file_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildBar("tiny") as bar:
        bar.start("Building", None, 4)
        bar.step("Building", 1)
        bar.finish("Building")
    assert capsys.readouterr().err == ""
