"""What is said of engines and plans; the engines are real ones, the plans lie in a real cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eseg_ros.doctor.engines import check_engines
from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.imports import Module
from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.plan import BuildOptions, Machine
from eseg_ros.engine.plan_cache import find_or_store

ORIN = Machine("tensorrt", "10.3.0", ("8.7",), "Orin", "12.6")
MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


@pytest.fixture
def folder(tiny_engine: Path, tmp_path: Path) -> Path:
    """A folder that holds the tiny engine."""
    return Path(shutil.copytree(tiny_engine.parent, tmp_path / "engines"))


def check(
    host: Host, *folders: Path, cache: Path = Path("/nowhere"), machines: tuple[Machine, ...] = ()
) -> list[Finding]:
    return list(check_engines(host, folders, "tiny", cache, machines))


def test_an_engine_is_told_with_what_auto_takes_and_what_else_runs_it(machine: MachineMaker, folder: Path) -> None:
    pytest.importorskip("openvino")
    host = machine(modules={"openvino": Module("2025.1"), "onnxruntime": Module("1.20")})

    (finding,) = check(host, folder)

    assert finding.level == "ok"
    assert finding.text == "tiny: fp32, 96x64, 11 classes; auto takes openvino, onnxruntime runs it too"


def test_an_engine_that_is_cut_stops_the_node_that_has_no_other(
    machine: MachineMaker, folder: Path, about: FindingLookup
) -> None:
    with (folder / "tiny.onnx").open("r+b") as file:
        file.truncate(100)

    findings = check(machine(), folder)

    finding = about(findings, "SHA-256")
    assert finding.stops_node
    assert finding.commands[0].startswith("eseg export CHECKPOINT --name tiny")
    assert about(findings, "no usable engine").stops_node


def test_a_broken_engine_that_is_not_the_default_stops_nothing(
    machine: MachineMaker, folder: Path, about: FindingLookup
) -> None:
    (folder / "other.json").write_text("{}")

    finding = about(check(machine(), folder), "other.json")

    assert (finding.level, finding.stops_node) == ("fix", False)


def test_a_folder_that_is_named_twice_is_told_once(machine: MachineMaker, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)

    assert len(check(machine(), folder, tmp_path / "link")) == 1


def test_plans_are_held_against_this_machine(
    machine: MachineMaker, folder: Path, tmp_path: Path, about: FindingLookup
) -> None:
    engine = load_engine(folder / "tiny.json")
    cache = tmp_path / "plans"
    find_or_store(engine, ORIN, BuildOptions(), cache, lambda: b"a plan")
    find_or_store(engine, Machine("tensorrt", "8.5.2", ("8.7",), "Orin"), BuildOptions(), cache, lambda: b"old")
    (cache / "tiny.sm87.0123456789abcdef.json").write_text("{}")

    findings = check(machine(), folder, cache=cache, machines=(ORIN,))

    assert about(findings, "2 plans, 1 of them for this machine").level == "ok"
    assert about(findings, "was built with TensorRT 8.5.2").commands == ("eseg build --prune",)
    assert about(findings, "tiny.sm87.0123456789abcdef.json is unusable").commands == ("eseg build --prune",)


def test_a_cache_that_everyone_may_write_is_refused(
    machine: MachineMaker, folder: Path, tmp_path: Path, about: FindingLookup
) -> None:
    cache = tmp_path / "plans"
    cache.mkdir()
    cache.chmod(0o777)

    finding = about(check(machine(), folder, cache=cache, machines=(ORIN,)), "may be written by everyone")

    assert finding.level == "fix"
    assert f"chmod -R o-w {cache}" in finding.commands[0]
