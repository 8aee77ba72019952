"""What a check has found: a line for a person, and the commands that mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: "ok"; "note", to know of, may be as wanted; "fix", something is wrong.
        text: what was found and, unless it is well, what follows from it.
        commands: what mends it, each a line for a shell.
        stops_node: the node cannot run until it is mended.
    """

    level: Literal["ok", "note", "fix"]
    text: str
    commands: tuple[str, ...] = ()
    stops_node: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The findings about one part of the machine."""

    title: str
    findings: tuple[Finding, ...]


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def note(text: str, *commands: str) -> Finding:
    """Something to know of."""
    return Finding("note", text, commands)


def fix(text: str, *commands: str, stops_node: bool = False) -> Finding:
    """Something is wrong."""
    return Finding("fix", text, commands, stops_node)


def examine(title: str, check: Callable[[], Iterable[Finding]]) -> Section:
    """Run a check. One that fails is itself a finding, behind those that it had already made."""
    findings = []
    try:
        for finding in check():
            findings.append(finding)
    except Exception as error:  # whatever a broken machine makes of it, the other checks go on
        findings.append(note(f"the rest of this was not checked: {type(error).__name__}: {error}"))
    return Section(title, tuple(findings))
