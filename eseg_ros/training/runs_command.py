"""`eseg runs`: lists and compares training runs, and writes their reports anew."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        default=[Path("runs")],
        metavar="FOLDER",
        help="runs, or folders of runs (runs)",
    )
    parser.add_argument("--diff", action="store_true", help="also print where the runs' recipes differ")
    parser.add_argument(
        "--report", action="store_true", help="write report.html of each run anew; needs its best.ckpt and its data"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, write what was asked for. Returns the exit code."""
    from eseg_ros.training.runs import differences_table, find_runs, runs_table

    runs = find_runs(args.folders)
    print(runs_table(runs))
    if args.diff:
        print(f"\n{differences_table(runs)}")
    if args.report:
        from eseg_ros.training.report import write_run_report

        for each in runs:
            print(f"report: {write_run_report(each.path)}", flush=True)
    return 0
