"""A plan: an engine as TensorRT built it for one machine, with a manifest of its own beside it.

A plan is `NAME.plan` and `NAME.json` in the plan cache (`eseg_ros.engine.plan_cache`). TensorRT runs a plan as code
and ties it to its own version and to the GPU. So nothing of a plan is handed to TensorRT before `read_plan` has found
it to be this user's own, whole, and made for this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from eseg_ros.engine.manifest import Engine, EngineManifest
from eseg_ros.errors import EngineError

SCHEMA_VERSION = 1
TARGETS = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
"""The libraries that build and run plans, and their names for people."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan is tied to: the library and the GPU that it was built for, or those that are to run it.

    Attributes:
        target: a key of TARGETS.
        version: the library's exact version, e.g. "10.3.0".
        capabilities: compute capabilities, e.g. ("8.7",); several only for a plan that TensorRT for RTX built ahead.
        gpu: the GPU's name; "" for a plan that was built ahead, for every GPU of its capabilities.
        cuda: highest CUDA version that the driver supports, e.g. "12.6"; "" where there is no GPU.
    """

    target: str
    version: str
    capabilities: tuple[str, ...]
    gpu: str = ""
    cuda: str = ""

    def __str__(self) -> str:
        gpu = f" ({self.gpu})" if self.gpu else ""
        return f"{TARGETS[self.target]} {self.version} for compute capability {', '.join(self.capabilities)}{gpu}"

    def fits(self, machine: Machine) -> bool:
        """Whether a plan that was built for this runs on `machine`."""
        return (
            (self.target, self.version) == (machine.target, machine.version)
            and set(machine.capabilities) <= set(self.capabilities)
            and self.gpu in ("", machine.gpu)
        )


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a person may choose about a build; another choice is another plan.

    Attributes:
        workspace_mib: most scratch memory that TensorRT may use, MiB; None leaves it all of the GPU's memory.
        optimization_level: 0 (built quickly) to 5 (searched longest); None leaves TensorRT's own, 3.
    """

    workspace_mib: int | None = None
    optimization_level: int | None = None


@dataclass(frozen=True, slots=True)
class PlanManifest:
    """What a plan is, what it was made of, where and how.

    Attributes:
        engine: the engine's manifest when the plan was built.
        source: absolute path of that manifest.
        machine: what the plan is tied to.
        options: how it was built.
        plan_file: file name of the plan, in the manifest's folder.
        plan_sha256: its SHA-256, hexadecimal.
        plan_bytes: its size.
        built: when, UTC, ISO 8601.
        build_seconds: how long that took.
        eseg_ros: version of this package.
        parity: data set -> how the plan compared with a reference on it, see `plan_cache.record_parity`.
        schema: version of this layout.
    """

    engine: EngineManifest
    source: str
    machine: Machine
    options: BuildOptions
    plan_file: str
    plan_sha256: str
    plan_bytes: int
    built: str
    build_seconds: float
    eseg_ros: str
    parity: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The manifest as indented JSON text, ending in a newline."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> PlanManifest:
        """Read a manifest.

        Raises:
            ValueError: it is not JSON, of another schema, or does not fit it.
            EngineError: the engine's part does not fit its schema.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA_VERSION:
            raise ValueError(f"it is not of schema {SCHEMA_VERSION}")
        try:
            machine: dict[str, Any] = values.pop("machine")
            manifest = PlanManifest(
                engine=EngineManifest.from_json(json.dumps(values.pop("engine"))),
                machine=Machine(**{**machine, "capabilities": tuple(machine["capabilities"])}),
                options=BuildOptions(**values.pop("options")),
                **values,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"it does not fit schema {SCHEMA_VERSION}: {error}") from error
        datetime.fromisoformat(manifest.built)
        if manifest.machine.target not in TARGETS or Path(manifest.plan_file).name != manifest.plan_file:
            raise ValueError(f"target {manifest.machine.target!r} or file {manifest.plan_file!r} is none of a plan's")
        return manifest


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan on disk. Its manifest was read, the plan itself not yet: see `read_plan`."""

    manifest: PlanManifest
    path: Path


def plan_key(engine: EngineManifest, machine: Machine, options: BuildOptions) -> str:
    """What tells plans apart, 16 hexadecimal digits: ONNX, options, exact version, compute capability and GPU."""
    parts = {
        "onnx": engine.onnx_sha256,
        "options": asdict(options),
        "target": machine.target,
        "version": machine.version,
        "capabilities": machine.capabilities,
        "gpu": machine.gpu,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan_stem(engine: EngineManifest, machine: Machine, options: BuildOptions) -> str:
    """File name of a plan without suffix, e.g. "eseg_lite_s_fp16.sm87.0123456789abcdef"."""
    gpu = "rtx" if machine.target == "rtx" else "sm" + machine.capabilities[0].replace(".", "")
    return f"{engine.name}.{gpu}.{plan_key(engine, machine, options)}"


def read_plan(plan: Plan, machine: Machine) -> bytes:
    """A plan's bytes, after all checks that need no GPU: owner, manifest, hash, version, compute capability.

    Raises:
        EngineError: it must not or cannot be run here; the message says what it was built with, what runs here and
            the command that mends it.
    """
    content = read_trusted(plan.path)
    manifest = plan.manifest
    again = f"Build it again: {build_command(manifest.source, machine.target)}"
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.plan_sha256:
        raise EngineError(
            f"{plan.path} ({len(content)} bytes) has SHA-256 {digest[:12]}…, but its manifest expects "
            f"{manifest.plan_sha256[:12]}… ({manifest.plan_bytes} bytes, built with {manifest.machine}): the file is "
            f"cut or was exchanged. This machine has {machine}. {again}"
        )
    if not manifest.machine.fits(machine):
        raise EngineError(f"{plan.path} was built with {manifest.machine}; this machine has {machine}. {again}")
    return content


def read_trusted(path: Path) -> bytes:
    """A file's bytes, if nobody but this user can have written it.

    A plan is executable code. So a file is refused that belongs to another user or may be written by everyone, or that
    lies in such a folder, where it could be exchanged. The file that is checked is the one that is read: it is opened
    once.

    Raises:
        EngineError: it cannot be read or is not this user's own.
    """
    try:
        check_owner(path.parent, path.parent.stat())
        with path.open("rb") as file:
            check_owner(path, os.fstat(file.fileno()))
            return file.read()
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error}). Build the plan again: eseg build ENGINE") from error


def check_owner(path: Path, found: os.stat_result) -> None:
    """Refuse a file or folder whose status `found` says that others may have written it.

    Raises:
        EngineError: it belongs to another user, or may be written by everyone.
    """
    user = os.geteuid()
    if found.st_uid != user:
        raise EngineError(
            f"{path} belongs to user {found.st_uid}, but this is user {user}. A plan is executable code and is loaded "
            "only from its own user's files: build it as this user (eseg build ENGINE), or if you trust it: "
            f"chown {user} {shlex.quote(str(path))}"
        )
    if found.st_mode & stat.S_IWOTH:
        raise EngineError(
            f"{path} may be written by everyone (mode {stat.S_IMODE(found.st_mode):o}). A plan is executable code; "
            f"if you know who wrote what is in it: chmod o-w {shlex.quote(str(path))}"
        )


def build_command(source: str | Path, target: str) -> str:
    """The command that builds the engine whose manifest is `source`."""
    return f"eseg build {shlex.quote(str(source))}" + (" --target rtx" if target == "rtx" else "")


def manifest_file(engine: Engine) -> Path:
    """Path of an engine's manifest."""
    return engine.onnx.with_name(f"{engine.manifest.name}.json")
