"""The plan cache: a folder of plans, each built once, however many ask for it.

A plan is written before its manifest, and a plan without a manifest is none; so a build that is cut off at any moment
leaves nothing that could be taken for a plan.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from eseg_ros import __version__
from eseg_ros.engine.manifest import Engine, sha256_of, write_atomically
from eseg_ros.engine.plan import (
    BuildOptions,
    Machine,
    Plan,
    PlanManifest,
    build_command,
    check_owner,
    manifest_file,
    plan_stem,
    read_plan,
    read_trusted,
)
from eseg_ros.errors import EngineError

LOCK = ".lock"
_PLAN_FILE = re.compile(r"\.?.+\.(sm\d+|rtx)\.[0-9a-f]{16}\.(plan|json)(\.\w+)?")
"""Names of a cache's files, see `plan.plan_stem`, and of those that `write_atomically` has under way."""


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/eseg_ros/plans`, `~/.cache/eseg_ros/plans` by default."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "eseg_ros" / "plans"


def scan(cache: Path) -> tuple[list[Plan], dict[Path, str]]:
    """All plans of a cache, newest first, and the manifests that cannot be used, each with the reason.

    Raises:
        EngineError: the folder is not this user's own.
    """
    plans, unusable = [], {}
    if cache.is_dir():
        check_owner(cache, cache.stat())
    for path in sorted(path for path in cache.glob("*.json") if _PLAN_FILE.fullmatch(path.name)):
        try:
            manifest = PlanManifest.from_json(read_trusted(path).decode())
        except (EngineError, ValueError) as error:
            unusable[path] = str(error)
        else:
            plans.append(Plan(manifest, path.with_name(manifest.plan_file)))
    return sorted(plans, key=lambda plan: plan.manifest.built, reverse=True), unusable


def find_plan(engine: Engine, machine: Machine, cache: Path) -> Plan:
    """The plan that comes nearest to running `engine` on `machine`: the newest that fits, else the newest.

    Whether it may be loaded is for `read_plan` to say, which names what differs.

    Raises:
        EngineError: there is none for this ONNX file; the message has the command that builds it. Or the folder is
            not this user's own.
    """
    plans, unusable = scan(cache)
    here = [plan for plan in plans if plan.manifest.machine.target == machine.target]
    of_engine = [plan for plan in here if plan.manifest.engine.onnx_sha256 == engine.manifest.onnx_sha256]
    if not of_engine:
        raise EngineError(_missing(engine, machine, cache, here, unusable))
    return next((plan for plan in of_engine if plan.manifest.machine.fits(machine)), of_engine[0])


def _missing(engine: Engine, machine: Machine, cache: Path, plans: list[Plan], unusable: dict[Path, str]) -> str:
    name = engine.manifest.name
    of_name = [plan for plan in plans if plan.manifest.engine.name == name]
    broken = [f"{path}: {reason}" for path, reason in unusable.items() if path.name.startswith(f"{name}.")]
    if broken:
        found = f"the only manifest there is unusable: {broken[0]}"
    elif of_name:
        manifest = of_name[0].manifest
        found = (
            f"{of_name[0].path.name} was built with {manifest.machine} from another {name}.onnx (SHA-256 "
            f"{manifest.engine.onnx_sha256[:12]}…, now {engine.manifest.onnx_sha256[:12]}…)"
        )
    else:
        found = "it has not been built"
    command = build_command(manifest_file(engine), machine.target)
    return f"no plan of {engine.onnx} in {cache}: {found}. This machine has {machine}. Build it here: {command}"


def find_or_store(
    engine: Engine,
    machine: Machine,
    options: BuildOptions,
    cache: Path,
    build: Callable[[], bytes],
    on_wait: Callable[[], None] = lambda: None,
) -> tuple[Plan, bool]:
    """The plan of exactly these options, built if it is not there or not whole.

    One build at a time in a cache: TensorRT chooses kernels by timing them, and two builds would time each other. Who
    comes second waits, and finds the plan if it was the same.

    Args:
        engine, machine, options: see `plan.plan_key`.
        cache: its folder, made if it is missing, for this user alone.
        build: makes the plan's bytes.
        on_wait: called if another build must be waited for.

    Returns:
        The plan, and whether it was built just now.

    Raises:
        EngineError: `build` raised it, or the folder is not this user's own.
    """
    path = cache / f"{plan_stem(engine.manifest, machine, options)}.plan"
    with locked(cache, on_wait):
        if (found := _intact(path, machine)) is not None:
            return found, False
        start = time.monotonic()
        content = build()
        manifest = PlanManifest(
            engine=engine.manifest,
            source=str(manifest_file(engine).resolve()),
            machine=machine,
            options=options,
            plan_file=path.name,
            plan_sha256=hashlib.sha256(content).hexdigest(),
            plan_bytes=len(content),
            built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            build_seconds=round(time.monotonic() - start, 1),
            eseg_ros=__version__,
        )
        write_atomically(path, content)
        write_atomically(path.with_suffix(".json"), manifest.to_json().encode())
        return Plan(manifest, path), True


def _intact(path: Path, machine: Machine) -> Plan | None:
    try:
        plan = Plan(PlanManifest.from_json(read_trusted(path.with_suffix(".json")).decode()), path)
        read_plan(plan, machine)
    except (EngineError, ValueError):
        return None
    return plan


def record_parity(path: Path, data: str, comparison: dict[str, Any]) -> Path:
    """Note in a plan's manifest how the plan compared with a reference.

    Args:
        path: the plan.
        data: what both saw, e.g. "camvid/val"; what was noted of the same data before is replaced.
        comparison: see `eseg_ros.engine.verify.verify`.

    Returns:
        The manifest's path.

    Raises:
        EngineError: the manifest is gone, or not this user's own.
    """
    file = path.with_suffix(".json")
    with locked(path.parent):
        manifest = PlanManifest.from_json(read_trusted(file).decode())
        noted = replace(manifest, parity={**manifest.parity, data: comparison})
        write_atomically(file, noted.to_json().encode())
    return file


@contextmanager
def locked(cache: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the cache's lock, which ends with the process that holds it.

    Args:
        cache: its folder, made if it is missing.
        on_wait: called if another process holds the lock.

    Raises:
        EngineError: the folder is not this user's own.
    """
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(cache, cache.stat())
    with (cache / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class Leftover:
    """Files of a cache that `prune` removes.

    Attributes:
        files: a plan and its manifest, or what is left of them.
        reason: why, in words.
        size: bytes.
    """

    files: tuple[Path, ...]
    reason: str
    size: int


def prune(
    cache: Path, machines: list[Machine], older_than: timedelta | None = None, dry_run: bool = False
) -> list[Leftover]:
    """Remove what cannot be used any more: unusable files, plans of a changed ONNX file or for another machine.

    Args:
        cache: its folder.
        machines: this machine, with every target that is installed; plans of other targets are not judged by it.
        older_than: plans built longer ago go as well.
        dry_run: only say what would go.

    Returns:
        What was, or would be, removed.
    """
    if not cache.is_dir():
        return []
    with locked(cache):
        leftovers = list(_leftovers(cache, machines, older_than))
        for leftover in leftovers:
            for path in () if dry_run else leftover.files:
                path.unlink(missing_ok=True)
    return leftovers


def _leftovers(cache: Path, machines: list[Machine], older_than: timedelta | None) -> Iterator[Leftover]:
    plans, unusable = scan(cache)
    kept: set[Path] = set()
    for plan in plans:
        files = (plan.path.with_suffix(".json"), plan.path)
        kept.update(files)
        if reason := _why_prune(plan, machines, older_than):
            yield _leftover(files, reason)
    for path, reason in unusable.items():
        kept.add(path)
        yield _leftover((path,), f"unusable: {reason}")
    for path in sorted(cache.iterdir()):
        if path not in kept and _PLAN_FILE.fullmatch(path.name):
            yield _leftover((path,), "left by a build that was cut off")


def _leftover(files: tuple[Path, ...], reason: str) -> Leftover:
    return Leftover(files, reason, sum(path.stat().st_size for path in files if path.exists()))


def _why_prune(plan: Plan, machines: list[Machine], older_than: timedelta | None) -> str | None:
    manifest = plan.manifest
    if not plan.path.exists():
        return "its plan is missing"
    onnx = Path(manifest.source).with_name(manifest.engine.onnx_file)
    if not onnx.is_file():
        return f"{onnx} is gone"
    if sha256_of(onnx) != manifest.engine.onnx_sha256:
        return f"{onnx} has changed"
    machine = next((machine for machine in machines if machine.target == manifest.machine.target), None)
    if machine is not None and not manifest.machine.fits(machine):
        return f"built with {manifest.machine}; this machine has {machine}"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(manifest.built)
    if older_than is not None and age > older_than:
        return f"built {age.days} days ago"
    return None
