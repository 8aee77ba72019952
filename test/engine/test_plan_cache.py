"""The plan cache: each plan is built once, found again, and removed when it is of no more use."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.engine.manifest import Engine, load_engine
from eseg_ros.engine.plan import BuildOptions, Machine, Plan, read_plan
from eseg_ros.engine.plan_cache import (
    default_cache,
    find_or_store,
    find_plan,
    prune,
    record_parity,
    scan,
)
from eseg_ros.errors import EngineError

ORIN = Machine("tensorrt", "10.3.0", ("8.7",), "Orin", "12.6")
NEWER = replace(ORIN, version="10.16.1")
DEFAULT = BuildOptions()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A plan cache that is not there yet."""
    return tmp_path / "plans"


@pytest.fixture
def engine(make_tiny_engine: Any) -> Engine:
    """The tiny engine, in files that the test may change."""
    return load_engine(make_tiny_engine())


def build(engine: Engine, cache: Path, machine: Machine = ORIN, options: BuildOptions = DEFAULT) -> Plan:
    return find_or_store(engine, machine, options, cache, lambda: b"code of " + machine.version.encode())[0]


def never() -> bytes:
    raise AssertionError("built again")


def test_the_cache_lies_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "eseg_ros" / "plans"

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/driver")
    assert default_cache() == Path("/home/driver/.cache/eseg_ros/plans")


def test_a_cache_is_made_for_its_user_alone(engine: Engine, cache: Path) -> None:
    build(engine, cache)

    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_plan_is_built_once(engine: Engine, cache: Path) -> None:
    first = build(engine, cache)

    second, is_new = find_or_store(engine, ORIN, DEFAULT, cache, never)

    assert (second, is_new) == (first, False)


def test_a_damaged_plan_is_built_again(engine: Engine, cache: Path) -> None:
    plan = build(engine, cache)
    plan.path.write_bytes(b"cut")

    assert read_plan(build(engine, cache), ORIN) == b"code of 10.3.0"


def test_a_damaged_manifest_is_written_again(engine: Engine, cache: Path) -> None:
    build(engine, cache).path.with_suffix(".json").write_text("{")

    assert read_plan(build(engine, cache), ORIN)


def test_a_build_that_fails_leaves_nothing(engine: Engine, cache: Path) -> None:
    def fail() -> bytes:
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        find_or_store(engine, ORIN, DEFAULT, cache, fail)
    assert scan(cache) == ([], {})
    assert read_plan(build(engine, cache), ORIN)


def test_nothing_is_built_into_a_folder_that_everyone_may_write(engine: Engine, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)

    with pytest.raises(EngineError, match="may be written by everyone"):
        find_or_store(engine, ORIN, DEFAULT, cache, never)


BUILD_AND_COUNT = """
import sys
from pathlib import Path
from eseg_ros.engine.manifest import load_engine
from eseg_ros.engine.plan import BuildOptions, Machine
from eseg_ros.engine.plan_cache import find_or_store

def build():
    print("built")
    return b"code of 10.3.0"

engine = load_engine(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
find_or_store(engine, Machine("tensorrt", "10.3.0", ("8.7",), "Orin", "12.6"), BuildOptions(), Path(sys.argv[2]), build)
"""
HOLD_THE_LOCK = """
import sys
from pathlib import Path
from eseg_ros.engine.plan_cache import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, after it said its first line; it goes on when it gets one."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() in ("ready\n", "held\n")
    return process


def test_two_processes_that_want_the_same_plan_build_it_once(engine: Engine, cache: Path) -> None:
    processes = [start(BUILD_AND_COUNT, engine.onnx, cache) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    said = sorted(process.communicate(timeout=60)[0] for process in processes)

    assert [process.returncode for process in processes] == [0, 0]
    assert said == ["", "built\n"]
    assert find_or_store(engine, ORIN, DEFAULT, cache, never)[1] is False


def test_who_comes_second_is_told_and_waits(engine: Engine, cache: Path) -> None:
    holder = start(HOLD_THE_LOCK, cache)
    told = []

    def release() -> None:
        told.append(holder.poll())
        holder.communicate("\n", timeout=60)

    _, is_new = find_or_store(engine, ORIN, DEFAULT, cache, lambda: b"code", on_wait=release)

    assert told == [None]  # while the other still held it
    assert is_new


def test_a_lock_ends_with_the_process_that_held_it(engine: Engine, cache: Path) -> None:
    holder = start(HOLD_THE_LOCK, cache)
    holder.kill()
    holder.communicate(timeout=60)

    assert build(engine, cache)


def test_the_plan_of_this_machine_is_found_among_others(engine: Engine, cache: Path) -> None:
    built = [build(engine, cache, machine) for machine in (ORIN, NEWER, replace(ORIN, gpu="Orin Nano"))]

    assert find_plan(engine, ORIN, cache) == built[0]
    assert find_plan(engine, NEWER, cache) == built[1]


def test_a_plan_for_another_machine_is_found_so_that_reading_it_says_what_differs(engine: Engine, cache: Path) -> None:
    build(engine, cache)

    with pytest.raises(EngineError, match=r"built with TensorRT 10\.3\.0 .*; this machine has TensorRT 10\.16\.1"):
        read_plan(find_plan(engine, NEWER, cache), NEWER)


def test_without_a_plan_the_command_is_given(engine: Engine, cache: Path) -> None:
    with pytest.raises(EngineError) as raised:
        find_plan(engine, ORIN, cache)

    assert str(raised.value) == (
        f"no plan of {engine.onnx} in {cache}: it has not been built. This machine has {ORIN}. Build it here: "
        f"eseg build {engine.onnx.with_suffix('.json')}"
    )


def test_a_plan_of_another_onnx_file_is_named(engine: Engine, cache: Path) -> None:
    build(engine, cache)
    changed = replace(engine, manifest=replace(engine.manifest, onnx_sha256="0" * 64))

    with pytest.raises(EngineError, match=r"from another tiny\.onnx \(SHA-256 .{12}…, now 000000000000…\)"):
        find_plan(changed, ORIN, cache)


def test_a_plan_whose_manifest_is_cut_is_named(engine: Engine, cache: Path) -> None:
    manifest = build(engine, cache).path.with_suffix(".json")
    manifest.write_text(manifest.read_text()[:100])

    with pytest.raises(EngineError, match=rf"the only manifest there is unusable: {manifest}.*eseg build"):
        find_plan(engine, ORIN, cache)


def test_a_plan_of_another_library_does_not_count(engine: Engine, cache: Path) -> None:
    build(engine, cache, Machine("rtx", "1.7", ("8.7",)))

    with pytest.raises(EngineError, match="it has not been built"):
        find_plan(engine, ORIN, cache)


def test_a_comparison_is_noted_with_the_plan_and_replaces_the_last_one_on_the_same_data(
    engine: Engine, cache: Path
) -> None:
    plan = build(engine, cache)

    record_parity(plan.path, "camvid/val", {"agreement": 0.9})
    record_parity(plan.path, "street/val", {"agreement": 0.8})
    record_parity(plan.path, "camvid/val", {"agreement": 0.999})

    assert find_plan(engine, ORIN, cache).manifest.parity == {
        "camvid/val": {"agreement": 0.999},
        "street/val": {"agreement": 0.8},
    }
    assert read_plan(plan, ORIN)


def pruned(cache: Path, *machines: Machine, **options: Any) -> list[str]:
    return [leftover.reason for leftover in prune(cache, list(machines), **options)]


def test_what_fits_is_kept(engine: Engine, cache: Path) -> None:
    plan = build(engine, cache)

    assert pruned(cache, ORIN) == []
    assert read_plan(plan, ORIN)


def test_a_plan_for_another_machine_is_removed(engine: Engine, cache: Path) -> None:
    old, new = build(engine, cache), build(engine, cache, NEWER)

    assert pruned(cache, NEWER) == [f"built with {ORIN}; this machine has {NEWER}"]
    assert not old.path.exists()
    assert not old.path.with_suffix(".json").exists()
    assert read_plan(new, NEWER)


def test_without_a_gpu_no_plan_is_judged_by_it(engine: Engine, cache: Path) -> None:
    build(engine, cache)

    assert pruned(cache) == []


def test_plans_of_a_changed_or_vanished_onnx_file_are_removed(engine: Engine, cache: Path) -> None:
    build(engine, cache)
    with engine.onnx.open("ab") as file:
        file.write(b"more")
    assert pruned(cache, ORIN) == [f"{engine.onnx} has changed"]

    build(engine, cache)
    engine.onnx.unlink()
    assert pruned(cache, ORIN) == [f"{engine.onnx} is gone"]


def test_older_plans_are_removed_if_asked_for(engine: Engine, cache: Path) -> None:
    manifest = build(engine, cache).path.with_suffix(".json")
    built = datetime.now(timezone.utc) - timedelta(days=40)
    text = manifest.read_text()
    found = find_plan(engine, ORIN, cache).manifest.built
    manifest.write_text(text.replace(found, built.isoformat(timespec="seconds")))

    assert pruned(cache, ORIN, older_than=timedelta(days=41)) == []
    assert pruned(cache, ORIN, older_than=timedelta(days=39)) == ["built 40 days ago"]


def test_what_a_cut_off_build_left_is_removed(engine: Engine, cache: Path) -> None:
    plan = build(engine, cache)
    plan.path.with_suffix(".json").unlink()
    (cache / f".{plan.path.name}.x7_k2qqq").write_bytes(b"half")

    assert pruned(cache, ORIN) == ["left by a build that was cut off"] * 2
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_an_unusable_manifest_and_its_plan_are_removed(engine: Engine, cache: Path) -> None:
    build(engine, cache).path.with_suffix(".json").write_text("{")

    reasons = pruned(cache, ORIN)

    assert reasons[0].startswith("unusable: ")
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_files_that_are_none_of_a_cache_s_are_left_alone(engine: Engine) -> None:
    folder = engine.onnx.parent
    build(engine, folder)
    before = sorted(path.name for path in folder.iterdir())

    assert pruned(folder, ORIN) == []
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_dry_run_removes_nothing(engine: Engine, cache: Path) -> None:
    plan = build(engine, cache)

    assert len(pruned(cache, NEWER, dry_run=True)) == 1
    assert read_plan(plan, ORIN)


def test_a_cache_that_is_not_there_has_nothing_to_remove(cache: Path) -> None:
    assert pruned(cache, ORIN) == []
    assert not cache.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_cache_of_another_user_is_refused_whole(engine: Engine, cache: Path) -> None:
    build(engine, cache)
    os.chown(cache, 12345, -1)

    with pytest.raises(EngineError, match="belongs to user 12345"):
        find_plan(engine, ORIN, cache)
