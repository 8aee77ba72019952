"""`eseg build`: builds an engine's TensorRT plan for this machine, and keeps the plan cache."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eseg_ros.arguments import positive_float, positive_int
from eseg_ros.errors import UsageError
from eseg_ros.text_table import aligned_columns

if TYPE_CHECKING:
    from eseg_ros.engine.plan import Machine, Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "engine", nargs="?", help="a path to an engine (manifest or ONNX file), or a shipped one's name"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        help="build the engine's sibling of this precision, NAME_fp16 or NAME_int8; see eseg quantize",
    )
    parser.add_argument(
        "--target",
        choices=("tensorrt", "rtx"),
        default="tensorrt",
        help="rtx: TensorRT for RTX, ahead of time for every GPU it knows, on any machine; default: %(default)s",
    )
    parser.add_argument(
        "--capability",
        nargs="+",
        default=(),
        metavar="8.6",
        help="with --target rtx: compute capabilities to build for; default: all that it knows",
    )
    parser.add_argument(
        "--workspace", type=positive_int, metavar="MIB", help="most scratch memory; default: all of the GPU's"
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        choices=range(6),
        metavar="0..5",
        help="0 builds quickly, 5 searches longest; default: TensorRT's own, 3",
    )
    parser.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="TensorRT's measurements, read and written: later builds are shorter",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="the plans; default: $XDG_CACHE_HOME/eseg_ros/plans, where everything else looks for them",
    )
    jobs = parser.add_mutually_exclusive_group()
    jobs.add_argument("--list", action="store_true", help="say which plans there are")
    jobs.add_argument(
        "--prune", action="store_true", help="remove plans of a changed ONNX file, for another machine, or unusable"
    )
    parser.add_argument("--older-than", type=positive_float, metavar="DAYS", help="with --prune: and older plans")
    parser.add_argument("--dry-run", action="store_true", help="with --prune: only say what would go")


def run(args: argparse.Namespace) -> int:
    """Build, list or prune."""
    from eseg_ros.engine.plan_cache import default_cache

    cache = args.cache or default_cache()
    if (args.older_than is not None or args.dry_run) and not args.prune:
        raise UsageError("--older-than and --dry-run belong to --prune")
    if (args.engine is None) != (args.list or args.prune):
        raise UsageError("say which engine to build: eseg build ENGINE; --list and --prune take none")
    if args.list:
        return _list(cache)
    if args.prune:
        return _prune(cache, args.older_than, args.dry_run)
    return _build(args, cache)


def _build(args: argparse.Namespace, cache: Path) -> int:
    from eseg_ros.engine.build import build_plan, engine_of_precision
    from eseg_ros.engine.plan import BuildOptions
    from eseg_ros.runtime.tensorrt import api
    from eseg_ros.share import find_engine

    engine = engine_of_precision(find_engine(args.engine), args.precision)
    trt = api.import_tensorrt(args.target)
    if args.target == "rtx":
        machine = api.machine_ahead(trt, args.capability)
    elif args.capability:
        raise UsageError("TensorRT builds for the GPU of this machine; --capability belongs to --target rtx")
    else:
        machine = this_machine(trt, args.target)
    options = BuildOptions(args.workspace, args.optimization_level)
    plan, is_new = build_plan(trt, engine, machine, cache, options, args.timing_cache)
    manifest = plan.manifest
    took = f"built in {manifest.build_seconds:.1f} s" if is_new else f"there since {manifest.built}"
    print(
        f"{plan.path}: {manifest.engine.name}, {manifest.engine.precision}, {manifest.machine}, "
        f"{_megabytes(manifest.plan_bytes)}, {took}"
    )
    return 0


def this_machine(trt: Any, target: str) -> Machine:
    """This machine with its first GPU.

    Raises:
        RuntimeUnavailableError: it has none.
    """
    from eseg_ros.runtime.cuda.drivers import open_driver
    from eseg_ros.runtime.tensorrt import api

    driver = open_driver()
    try:
        return api.machine_of(trt, target, driver.open(0))
    finally:
        driver.close()


def _machines() -> list[Machine]:
    """This machine with every target that is installed; none without a GPU."""
    from eseg_ros.engine.plan import TARGETS
    from eseg_ros.errors import RuntimeUnavailableError
    from eseg_ros.runtime.tensorrt import api

    machines = []
    for target in TARGETS:
        try:
            machines.append(this_machine(api.import_tensorrt(target), target))
        except RuntimeUnavailableError:
            continue
    return machines


def _list(cache: Path) -> int:
    from eseg_ros.engine.plan_cache import scan

    plans, unusable = scan(cache)
    machines = _machines()
    rows = [_row(plan, machines) for plan in plans]
    header = ("engine", "precision", "library", "compute capability", "GPU", "size", "built", "here", "verified")
    if rows:
        print("\n".join(aligned_columns((header, *rows))))
    for path, reason in unusable.items():
        print(f"{path}: unusable: {reason}")
    print(f"{len(plans)} plans in {cache}")
    return 0


def _row(plan: Plan, machines: list[Machine]) -> tuple[str, ...]:
    from eseg_ros.engine.plan import TARGETS

    manifest = plan.manifest
    built_for = manifest.machine
    same_target = [machine for machine in machines if machine.target == built_for.target]
    return (
        manifest.engine.name,
        manifest.engine.precision,
        f"{TARGETS[built_for.target]} {built_for.version}",
        ", ".join(built_for.capabilities),
        built_for.gpu or "any",
        _megabytes(manifest.plan_bytes),
        manifest.built,
        "?" if not same_target else "yes" if built_for.fits(same_target[0]) else "no",
        ", ".join(_verified(data, comparison) for data, comparison in manifest.parity.items()) or "no",
    )


def _verified(data: str, comparison: dict[str, Any]) -> str:
    """What `eseg verify` noted: the share of mask pixels that are the reference's, e.g. "99.82% of camvid/val"."""
    return f"{comparison['agreement']:.2%} of {data}" + ("" if comparison["passed"] else " (failed)")


def _prune(cache: Path, older_than_days: float | None, dry_run: bool) -> int:
    from eseg_ros.engine.plan_cache import prune

    older_than = None if older_than_days is None else timedelta(days=older_than_days)
    leftovers = prune(cache, _machines(), older_than, dry_run)
    verb = "would remove" if dry_run else "removed"
    for leftover in leftovers:
        print(f"{verb} {leftover.files[-1].name}: {leftover.reason}")
    print(f"{verb} {_megabytes(sum(leftover.size for leftover in leftovers))} from {cache}")
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
