"""A machine made up of files, variables and modules, and a way to look a finding up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.host import RMW_IN_USE, ROS_MODULES, Host
from eseg_ros.doctor.imports import Module

MachineMaker = Callable[..., Host]
FindingLookup = Callable[[Iterable[Finding], str], Finding]


@pytest.fixture
def machine(tmp_path: Path) -> MachineMaker:
    """`machine({"/proc/cpuinfo": "..."}, environment=..., modules=...)`: a host with just these files."""
    root = tmp_path / "machine"
    root.mkdir()

    def make(files: Mapping[str, str] | None = None, **fields: object) -> Host:
        host = Host(root, **fields)  # type: ignore[arg-type]
        for name, text in (files or {}).items():
            host.path(name).parent.mkdir(parents=True, exist_ok=True)
            host.path(name).write_text(text)
        return host

    return make


@pytest.fixture
def sourced_jazzy(machine: MachineMaker) -> MachineMaker:
    """`sourced_jazzy(environment=..., modules=...)`: Jazzy with all that the node imports; None takes a module away."""

    def make(
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        modules: Mapping[str, Module | None] | None = None,
        **fields: object,
    ) -> Host:
        there = {**dict.fromkeys(ROS_MODULES, Module()), RMW_IN_USE: Module("rmw_fastrtps_cpp"), **(modules or {})}
        return machine(
            files,
            environment={"ROS_DISTRO": "jazzy", **(environment or {})},
            modules={name: module for name, module in there.items() if module is not None},
            **fields,
        )

    return make


@pytest.fixture
def about() -> FindingLookup:
    """`about(findings, words)`: the one finding whose text has these words."""

    def look_up(findings: Iterable[Finding], words: str) -> Finding:
        found = list(findings)
        fitting = [finding for finding in found if words in finding.text]
        assert len(fitting) == 1, f"{words!r} in {found}"
        return fitting[0]

    return look_up
