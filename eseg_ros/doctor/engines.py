"""The engines at hand, what each would run on, and the plans in the cache."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eseg_ros.doctor.finding import Finding, fix, note, ok
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.packages import CPU_RUNTIMES
from eseg_ros.errors import DeviceError, EngineError, RuntimeUnavailableError

if TYPE_CHECKING:
    from eseg_ros.engine.manifest import Engine
    from eseg_ros.engine.plan import Machine

_TENSORRT = {"tensorrt": ("tensorrt",), "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Target of plans -> modules, any of which runs them."""


def gpu_machines(host: Host) -> list[Machine]:
    """This machine with its first GPU, once for every target that can be imported; none without a GPU."""
    from eseg_ros.engine.build_command import this_machine
    from eseg_ros.runtime.tensorrt.api import import_tensorrt

    targets = [target for target, modules in _TENSORRT.items() if any(map(host.works, modules))]
    try:
        return [this_machine(import_tensorrt(target), target) for target in targets]
    except (RuntimeUnavailableError, DeviceError):  # the checks of the GPU say why
        return []


def check_engines(
    host: Host, folders: Sequence[Path], default: str, cache: Path, machines: Sequence[Machine]
) -> Iterator[Finding]:
    """Every engine, then the plan cache.

    Args:
        host: the machine.
        folders: where engines lie, each `NAME.json` beside `NAME.onnx`.
        default: name of the engine that the node runs unless told otherwise.
        cache: folder of the plan cache.
        machines: this machine, with every target of plans that runs here.
    """
    from eseg_ros.engine.manifest import load_engine

    files = [path.resolve() for folder in folders for kind in ("*.json", "*.onnx") for path in folder.glob(kind)]
    usable = 0
    for stem in sorted({path.with_suffix("") for path in files}):
        try:
            engine = load_engine(stem)
        except EngineError as error:
            remedy = f"eseg export CHECKPOINT --name {shlex.quote(stem.name)}   # or copy both files again"
            yield fix(str(error), remedy, stops_node=stem.name == default)
        else:
            usable += 1
            yield _engine(host, engine)
    if not usable:
        places = ", ".join(map(str, folders))
        yield fix(f"no usable engine in {places}", "eseg export CHECKPOINT --name NAME", stops_node=True)
    yield from _plans(cache, machines)


def _engine(host: Host, engine: Engine) -> Finding:
    """What `runtime: auto` makes of it, and who else could run it."""
    from eseg_ros.engine.plan import build_command, manifest_file
    from eseg_ros.runtime.select import create_runtime

    manifest = engine.manifest
    what = f"{manifest.name}: {manifest.precision}, {manifest.input.width}x{manifest.input.height}, "
    what += f"{len(manifest.classes)} classes"
    with _warnings_of("eseg_ros.runtime.select") as warnings:
        try:
            chosen = create_runtime(engine).name
        except RuntimeUnavailableError as error:
            return fix(f"{what}; nothing runs it: {error}", f"{host.pip} openvino")
    others = [name for name in CPU_RUNTIMES if host.works(name) and name != chosen]
    text = f"{what}; auto takes {chosen}" + (f", {' and '.join(others)} runs it too" if others else "")
    if warnings and host.works("tensorrt"):  # without TensorRT, its own line says so once
        return note(f"{text}. {'; '.join(warnings)}", build_command(manifest_file(engine), "tensorrt"))
    return ok(text)


@contextmanager
def _warnings_of(name: str) -> Iterator[list[str]]:
    """Collect a logger's warnings in place of showing them."""
    texts: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            texts.append(record.getMessage())
        return False

    logger = logging.getLogger(name)
    logger.addFilter(keep)
    try:
        yield texts
    finally:
        logger.removeFilter(keep)


def _plans(cache: Path, machines: Sequence[Machine]) -> Iterator[Finding]:
    from eseg_ros.engine.plan_cache import scan

    if not cache.is_dir():
        if machines:
            yield ok(f"plan cache {cache}: not there yet, eseg build makes it")
        return
    folder = shlex.quote(str(cache))
    try:
        plans, unusable = scan(cache)
    except EngineError as error:
        yield fix(str(error), f"sudo chown -R $(id -u) {folder} && chmod -R o-w {folder}")
        return
    here = {machine.target: machine for machine in machines}
    fitting = [plan for plan in plans for machine in machines if plan.manifest.machine.fits(machine)]
    yield ok(f"plan cache {cache}: {len(plans)} plans, {len(fitting)} of them for this machine")
    for plan in plans:
        machine = here.get(plan.manifest.machine.target)
        if machine is not None and not plan.manifest.machine.fits(machine):
            text = f"{plan.path.name} was built with {plan.manifest.machine}; this machine has {machine}"
            yield note(text, "eseg build --prune")
    for path, reason in unusable.items():
        yield note(f"{path.name} is unusable: {reason}", "eseg build --prune")
