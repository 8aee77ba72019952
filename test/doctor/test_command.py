"""The report as a person, and as a machine, gets it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eseg_ros.doctor import command
from eseg_ros.doctor.finding import Finding, Section, examine, fix, note, ok
from eseg_ros.doctor.host import Host, this_host
from eseg_ros.doctor.imports import Module

MachineMaker = Callable[..., Host]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_a_check_that_fails_is_a_note_behind_what_it_had_found() -> None:
    def check() -> Iterator[Finding]:
        yield ok("first")
        raise OSError("the disk is gone")

    section = examine("Disk", check)

    assert [finding.level for finding in section.findings] == ["ok", "note"]
    assert section.findings[1].text == "the rest of this was not checked: OSError: the disk is gone"


def test_an_empty_machine_is_examined_to_the_end(machine: MachineMaker) -> None:
    """No /proc, no /sys, no variables, no modules."""
    sections = command.examine_host(machine())

    assert [section.title for section in sections] == [
        *("Python", "ROS 2", "Images over DDS", "Processor and memory", "GPU", "Engines"),
    ]
    assert all(section.findings for section in sections)


def test_a_module_that_ends_its_process_is_imported_no_more(
    machine: MachineMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashes_here.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    command.keep_out(machine(modules={"crashes_here": Module(error="importing it ended the process")}))

    assert sys.modules["crashes_here"] is None  # which Python refuses to import


def test_lines_are_wrapped_under_their_text_and_commands_stay_whole() -> None:
    remedy = "sudo sysctl -w net.core.rmem_max=2147483647 net.ipv4.ipfrag_time=3"
    sections = [Section("DDS", (ok("fine"), fix("far too small for what it is to hold", remedy, stops_node=True)))]

    assert command.report_text(sections, width=40).splitlines() == [
        "DDS",
        "  ok    fine",
        "  fix   far too small for what it is to",
        "        hold (the node cannot run)",
        f"          {remedy}",
        "",
        "1 to fix, 1 of them before the node can run.",
    ]


@pytest.mark.parametrize(
    ("findings", "last_line"),
    [
        ((ok("a"), note("b")), "Nothing to fix."),
        ((fix("a", "x"), ok("b")), "1 to fix, none of which stops the node."),
    ],
)
def test_the_last_line_sums_up(findings: tuple[Finding, ...], last_line: str) -> None:
    assert command.report_text([Section("All", findings)], width=80).splitlines()[-1] == last_line


@pytest.mark.parametrize(("domain", "status"), [("0", 0), ("999", 1)])
def test_the_exit_status_and_json_say_whether_the_node_can_run(
    machine: MachineMaker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    domain: str,
    status: int,
) -> None:
    """On this machine, which runs the node's tests, but for the variables."""
    host = replace(this_host(), environment={"ROS_DOMAIN_ID": domain})
    monkeypatch.setattr(command, "this_host", lambda: host)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert run("--json") == status

    report = json.loads(capsys.readouterr().out)
    found = [finding for section in report["sections"] for finding in section["findings"]]
    assert report["stops_node"] == bool(status)
    assert any(finding["stops_node"] for finding in found) == bool(status)
    assert {finding["level"] for finding in found} <= {"ok", "note", "fix"}
