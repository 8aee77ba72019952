"""`eseg compare`: did the second run get better or worse, and where?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from eseg_ros.arguments import positive_int

if TYPE_CHECKING:
    from eseg_ros.evaluation.compare import Change, Comparison

CONDITION_HOLDS = 3
"""Exit status where a --fail-if holds; 1 is an error."""
_LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("first", type=Path, metavar="RUN_A", help="folder of `eseg evaluate --out`")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="the run to judge against it")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help=f'end with status {CONDITION_HOLDS} if it holds for B less A, e.g. "miou < -0.5" (points), "iou.pedestrian'
        '.high < 0" (end of the interval), "[SEQUENCE] miou < -2", "latency_ms.p95 > 5", "frames_dropped > 0"; may be '
        "given several times",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the comparison there")
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="write a page with pictures there")
    parser.add_argument("--replicates", type=positive_int, default=1000, help="of the bootstrap (%(default)s)")
    parser.add_argument("--block", type=positive_int, default=1, metavar="N", help="frames that are drawn together (1)")


def run(args: argparse.Namespace) -> int:
    """Compare, print, write what was asked for; returns CONDITION_HOLDS if a condition holds."""
    from eseg_ros.engine.manifest import write_atomically
    from eseg_ros.evaluation.bootstrap import Resampling
    from eseg_ros.evaluation.compare import compare_runs
    from eseg_ros.evaluation.compare_report import write_comparison_report
    from eseg_ros.evaluation.conditions import parse_condition
    from eseg_ros.evaluation.run_folder import load_run

    conditions = [parse_condition(text) for text in args.fail_if]
    resampling = Resampling(args.replicates, args.block)
    comparison = compare_runs(load_run(args.first), load_run(args.second), resampling)
    holding = [(condition, condition.value(comparison)) for condition in conditions if condition.holds(comparison)]
    print(comparison_text(comparison))
    if args.json:
        values = {**comparison.to_json(), "conditions": {c.text: c.holds(comparison) for c in conditions}}
        write_atomically(args.json, (json.dumps(values, indent=2) + "\n").encode())
        print(f"comparison: {args.json}")
    if args.html:
        write_comparison_report(args.html, comparison)
        print(f"report: {args.html}")
    for condition, value in holding:
        print(f"FAILED: {condition.text} (it is {value:+.2f})")
    return CONDITION_HOLDS if holding else 0


def comparison_text(comparison: Comparison) -> str:
    """A comparison for the terminal."""
    first, second = comparison.first, comparison.second
    decisive = comparison.scores[comparison.decisive]
    width = max(map(len, (*comparison.scores, *comparison.sequences)))
    lines = [
        f"{second.folder.path} ({second.summary['engine']}) against {first.folder.path} ({first.summary['engine']}): "
        f"{comparison.verdict}",
        f"{comparison.decisive} {_change_text(comparison.decisive, decisive)}, {len(comparison.before)} common frames",
        "",
        f"{'':<{width}}   before   after  difference",
        *(f"{name:<{width}}  {_change_text(name, change)}" for name, change in comparison.scores.items()),
    ]
    if len(comparison.sequences) > 1:
        lines += ["", f"{comparison.decisive} by sequence"]
        for name, scores in comparison.sequences.items():
            if comparison.decisive in scores:
                lines.append(f"{name:<{width}}  {_change_text(comparison.decisive, scores[comparison.decisive])}")
    changes, most = comparison.frame_changes(), comparison.most_changed()[:_LISTED]
    if most:
        lines += ["", "frames that changed most (points)"]
        record = comparison.before
        lines += [f"{100 * changes[at]:+6.1f}  {record.sequence[at]}  {record.name[at]}" for at in most]
    return "\n".join(lines)


def _change_text(score: str, change: Change) -> str:
    scale = 1 if score.startswith("latency_ms") else 100
    value, low, high = (scale * end for end in change.difference.numbers())
    interval = f"[{low:+.2f}, {high:+.2f}]" if low == low else "no interval"
    return f"{scale * change.before:7.2f} {scale * change.after:7.2f}  {value:+6.2f} {interval}  {change.verdict}"
