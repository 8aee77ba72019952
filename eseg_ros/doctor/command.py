"""`eseg doctor`: what this machine has for the node and what to fix, each with the command."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eseg_ros import __version__
from eseg_ros.doctor.engines import check_engines, gpu_machines
from eseg_ros.doctor.finding import Finding, Section, examine
from eseg_ros.doctor.gpu import check_gpu
from eseg_ros.doctor.host import Host, this_host
from eseg_ros.doctor.packages import check_packages
from eseg_ros.doctor.processor import check_processor
from eseg_ros.doctor.ros import check_ros
from eseg_ros.doctor.transport import check_transport
from eseg_ros.share import share_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings for machines")


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them stops the node from running, else 0."""
    host = this_host()
    keep_out(host)
    sections = examine_host(host)
    stops_node = any(finding.stops_node for section in sections for finding in section.findings)
    if args.json:
        report = {"eseg_ros": __version__, "stops_node": stops_node, "sections": [asdict(part) for part in sections]}
        print(json.dumps(report, indent=2))
    else:
        print(report_text(sections, shutil.get_terminal_size((120, 24)).columns))
    return int(stops_node)


def keep_out(host: Host) -> None:
    """Let nothing import in this process what could not be imported in another: it may end the process."""
    loaded: dict[str, Any] = sys.modules
    for name, module in host.modules.items():
        if module.error:
            loaded.setdefault(name, None)


def examine_host(host: Host) -> list[Section]:
    """All that there is to find, section by section."""
    return [
        examine("Python", lambda: check_packages(host)),
        examine("ROS 2", lambda: check_ros(host)),
        examine("Images over DDS", lambda: check_transport(host, share_folder() / "config" / "fastdds.xml")),
        examine("Processor and memory", lambda: check_processor(host)),
        examine("GPU", lambda: check_gpu(host)),
        examine("Engines", lambda: _engines(host)),
    ]


def _engines(host: Host) -> Iterator[Finding]:
    """Those that are shipped, and those in `engines` of the working folder."""
    import yaml

    from eseg_ros.engine.plan_cache import default_cache

    shared = share_folder()
    parameters = yaml.safe_load((shared / "config" / "eseg.yaml").read_text(encoding="utf-8"))
    default = parameters["/**"]["ros__parameters"]["engine"]
    folders = [shared / "engines", Path("engines").resolve()]
    return check_engines(host, folders, default, default_cache(), gpu_machines(host))


def report_text(sections: Sequence[Section], width: int) -> str:
    """The report in lines of `width` columns, but for commands, which stay whole: a finding, what mends it beneath."""
    lines = []
    for section in sections:
        lines.append(section.title)
        for finding in section.findings:
            text = f"  {finding.level:4}  {finding.text}" + (" (the node cannot run)" if finding.stops_node else "")
            lines += textwrap.wrap(
                text, width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
            )
            lines += [f"{' ' * 10}{command}" for command in finding.commands]
        lines.append("")
    return "\n".join([*lines, _summary([finding for section in sections for finding in section.findings])])


def _summary(findings: Sequence[Finding]) -> str:
    to_fix = [finding for finding in findings if finding.level == "fix"]
    stopping = sum(finding.stops_node for finding in to_fix)
    if not to_fix:
        return "Nothing to fix."
    rest = f"{stopping} of them before the node can run" if stopping else "none of which stops the node"
    return f"{len(to_fix)} to fix, {rest}."
