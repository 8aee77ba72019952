"""A plan is read only if it is this user's own, whole, and made for this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.plan import BuildOptions, Machine, Plan, PlanManifest, plan_key, read_plan, read_trusted
from eseg_ros.engine.plan_cache import find_or_store
from eseg_ros.errors import EngineError

ORIN = Machine("tensorrt", "10.3.0", ("8.7",), "Orin", "12.6")
RTX = Machine("rtx", "1.7.1.116", ("7.5", "8.6"))
DEFAULT = BuildOptions()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty plan cache."""
    return tmp_path / "plans"


@pytest.fixture
def plan(tiny_engine: Path, cache: Path) -> Plan:
    """The tiny engine's plan, built on an Orin."""
    return find_or_store(load_engine(tiny_engine), ORIN, DEFAULT, cache, lambda: b"executable code")[0]


def test_a_plan_reads_back_on_the_machine_that_built_it(plan: Plan) -> None:
    assert read_plan(plan, ORIN) == b"executable code"


def test_its_manifest_says_what_it_is_and_where_and_how_it_was_made(plan: Plan, tiny_engine: Path) -> None:
    manifest = PlanManifest.from_json(plan.path.with_suffix(".json").read_text())

    assert manifest == plan.manifest
    assert (manifest.machine, manifest.options) == (ORIN, DEFAULT)
    assert manifest.engine == load_engine(tiny_engine).manifest
    assert Path(manifest.source) == tiny_engine


@pytest.mark.parametrize(
    "other",
    [
        replace(ORIN, version="10.16.1"),
        replace(ORIN, capabilities=("11.0",), gpu="Thor"),
        replace(ORIN, gpu="Orin Nano"),
        Machine("rtx", "10.3.0", ("8.7",), "Orin"),
    ],
)
def test_another_machine_is_told_both_and_the_command(plan: Plan, other: Machine, tiny_engine: Path) -> None:
    with pytest.raises(EngineError) as raised:
        read_plan(plan, other)

    assert str(raised.value).startswith(
        f"{plan.path} was built with TensorRT 10.3.0 for compute capability 8.7 (Orin); this machine has {other}. "
        f"Build it again: eseg build {tiny_engine}"
    )


def test_another_driver_is_no_reason_to_refuse(plan: Plan) -> None:
    assert read_plan(plan, replace(ORIN, cuda="13.0"))


def test_a_plan_that_was_built_ahead_runs_on_every_gpu_of_its_capabilities(tiny_engine: Path, cache: Path) -> None:
    plan, _ = find_or_store(load_engine(tiny_engine), RTX, DEFAULT, cache, lambda: b"code")

    assert read_plan(plan, replace(RTX, capabilities=("8.6",), gpu="RTX 3060"))
    with pytest.raises(EngineError, match=r"compute capability 8\.9 \(RTX 4060\)\..* --target rtx"):
        read_plan(plan, replace(RTX, capabilities=("8.9",), gpu="RTX 4060"))


@pytest.mark.parametrize("content", [b"", b"executable", b"another code..."])
def test_a_cut_or_exchanged_plan_is_refused_before_its_version_is_looked_at(plan: Plan, content: bytes) -> None:
    plan.path.write_bytes(content)

    with pytest.raises(EngineError, match=rf"\({len(content)} bytes\).*the file is cut or was exchanged"):
        read_plan(plan, replace(ORIN, version="11.0"))


def test_a_missing_plan_is_refused(plan: Plan) -> None:
    plan.path.unlink()

    with pytest.raises(EngineError, match="cannot be read"):
        read_plan(plan, ORIN)


def test_a_plan_that_everyone_may_write_is_refused_before_its_hash(plan: Plan) -> None:
    plan.path.write_bytes(b"planted")
    plan.path.chmod(0o666)

    with pytest.raises(EngineError, match=r"may be written by everyone \(mode 666\).*chmod o-w "):
        read_plan(plan, ORIN)


def test_a_plan_in_a_folder_that_everyone_may_write_is_refused(plan: Plan) -> None:
    plan.path.parent.chmod(0o777)

    with pytest.raises(EngineError, match=rf"{plan.path.parent} may be written by everyone"):
        read_plan(plan, ORIN)


def test_a_plan_of_another_user_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = plan.path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)

    with pytest.raises(EngineError, match=rf"belongs to user {owner}, but this is user {owner + 1}\..*chown"):
        read_plan(plan, ORIN)


def test_a_link_is_judged_by_the_file_it_points_to(plan: Plan, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(plan.path.read_bytes())
    foreign.chmod(0o666)
    plan.path.unlink()
    plan.path.symlink_to(foreign)

    with pytest.raises(EngineError, match="may be written by everyone"):
        read_trusted(plan.path)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"machine": {"target": "cuda", "version": "1", "capabilities": ["8.7"]}},
        {"machine": {"version": "1"}},
        {"plan_file": "../../evil.plan"},
        {"built": "yesterday"},
        {"unknown": 1},
    ],
)
def test_a_manifest_that_does_not_fit_the_schema_is_refused(plan: Plan, change: dict[str, Any]) -> None:
    values = {**json.loads(plan.manifest.to_json()), **change}

    with pytest.raises(ValueError, match=r"schema|none of a plan's|isoformat"):
        PlanManifest.from_json(json.dumps(values))


def test_plans_differ_by_onnx_options_version_capability_and_gpu_and_by_nothing_else(plan: Plan) -> None:
    engine = plan.manifest.engine
    keys = [
        plan_key(engine, ORIN, DEFAULT),
        plan_key(replace(engine, onnx_sha256="0"), ORIN, DEFAULT),
        plan_key(engine, ORIN, BuildOptions(workspace_mib=256)),
        plan_key(engine, ORIN, BuildOptions(optimization_level=5)),
        plan_key(engine, replace(ORIN, version="10.3.1"), DEFAULT),
        plan_key(engine, replace(ORIN, capabilities=("8.6",)), DEFAULT),
        plan_key(engine, replace(ORIN, gpu="Orin Nano"), DEFAULT),
        plan_key(engine, replace(ORIN, target="rtx"), DEFAULT),
    ]

    assert len(set(keys)) == len(keys)
    assert plan_key(replace(engine, scores={"camvid": 1}), replace(ORIN, cuda="13.0"), DEFAULT) == keys[0]
