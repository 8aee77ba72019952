"""`eseg evaluate`: what an engine is worth on a data set or on bags."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eseg_ros.arguments import positive_float, positive_int
from eseg_ros.errors import UsageError
from eseg_ros.runtime import RUNTIMES

if TYPE_CHECKING:
    from eseg_ros.evaluation.evaluator import Settings
    from eseg_ros.evaluation.run import Source
    from eseg_ros.evaluation.sequences import FrameSequence

SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--engine", type=Path, required=True, metavar="ENGINE.json", help="the engine's manifest")
    _add_source_arguments(parser.add_argument_group("what to evaluate on (--data or --bag)"))
    _add_truth_arguments(parser.add_argument_group("what is right (default: the data set's labels; nothing for bags)"))
    _add_mode_arguments(parser.add_argument_group("how"))
    _add_output_arguments(parser.add_argument_group("what comes out"))
    _add_worker_arguments(parser.add_argument_group("who does it"))


def _add_source_arguments(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="ROOT", help="data set in any layout that `eseg train` knows")
    source.add_argument(
        "--bag", type=Path, nargs="+", metavar="BAG", help="bags, mcap or sqlite3, split or not, and folders of bags"
    )
    group.add_argument("--split", default="val", help="default: %(default)s")
    group.add_argument("--topic", help="image topic, raw or compressed; needed if a bag has several")
    group.add_argument("--frames", type=positive_int, metavar="N", help="at most so many of each bag")


def _add_truth_arguments(group: argparse._ArgumentGroup) -> None:
    truth = group.add_mutually_exclusive_group()
    truth.add_argument("--label-topic", help="class ids with the images' stamps, mono8 or PNG")
    truth.add_argument("--labels", type=Path, metavar="DIR", help="PNG files of class ids, named by the images' stamps")
    truth.add_argument(
        "--reference", type=Path, metavar="ENGINE.json", help="another engine, agreement with which is scored"
    )


def _add_mode_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--live", action="store_true", help="replay bags to the real node: what drops, and how late")
    group.add_argument("--rate", type=positive_float, default=1.0, help="times the recorded speed, with --live (1.0)")
    group.add_argument("--runtime", default="auto", choices=RUNTIMES, help="default: %(default)s")
    group.add_argument("--threads", type=int, default=0, help="of the inference library; 0, the default: its choice")


def _add_output_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--out", type=Path, metavar="RUN", help="folder for scores, frames and report; an interrupted run goes on"
    )
    group.add_argument("--masks", action="store_true", help="write masks and overlays as bags into RUN")
    group.add_argument("--pictures", type=int, metavar="N", help="frames with pictures in the report (120); 0: none")
    group.add_argument("--replicates", type=positive_int, default=1000, help="of the bootstrap (%(default)s)")
    group.add_argument("--block", type=positive_int, default=1, metavar="N", help="frames that are drawn together (1)")
    group.add_argument("--json", type=Path, metavar="OUT", help="write the scores there")
    group.add_argument("--write-manifest", action="store_true", help="record the scores in the engine's manifest")


def _add_worker_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--processes", type=positive_int, metavar="N", help="processes that share the sequences (1)")
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="share the sequences among a Ray cluster; without ADDRESS that of RAY_ADDRESS, else one made here",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, and write what was asked for; SOME_FAILED if a sequence could not be evaluated."""
    from eseg_ros.engine.manifest import load_engine, write_atomically
    from eseg_ros.evaluation.bootstrap import Resampling
    from eseg_ros.evaluation.offline import data_name, evaluate, record_scores, refuse_learnt
    from eseg_ros.evaluation.summary import summary_text

    _check(args)
    if args.write_manifest:  # before hours of work
        refuse_learnt(load_engine(args.engine).manifest, data_name(args.data, args.split))
    if args.out is None:
        resampling = Resampling(args.replicates, args.block)
        summary = evaluate(args.engine, args.data, args.split, args.runtime, args.threads, resampling)
    else:
        summary = _evaluate_run(args)
    print(summary_text(summary))
    if args.json:
        write_atomically(args.json, (json.dumps(summary, indent=2) + "\n").encode())
        print(f"scores: {args.json}")
    if args.write_manifest:
        print(f"recorded in {record_scores(args.engine, {**summary, 'root': str(args.data)})}")
    if args.out is not None:
        print(f"report: {args.out / 'report.html'}")
    for name, error in summary["failed"].items():
        print(f"eseg: {name} could not be evaluated: {error}", file=sys.stderr)
    return SOME_FAILED if summary["failed"] else 0


def _check(args: argparse.Namespace) -> None:
    """Raise a UsageError for options that do not go together."""
    for needless, given, needed in (
        ("--live", args.live and args.bag is None, "--bag"),
        ("--label-topic", args.label_topic and args.bag is None, "--bag"),
        ("--labels", args.labels and args.bag is None, "--bag; a data set brings its own"),
        ("--topic", args.topic and args.bag is None, "--bag"),
        ("--bag", args.bag and args.out is None, "--out RUN, where scores, frames and report go"),
        ("--reference", args.reference and args.out is None, "--out RUN"),
        ("--masks", args.masks and args.out is None, "--out RUN"),
        ("--frames", args.frames and args.out is None, "--out RUN"),
        ("--pictures", args.pictures and args.out is None, "--out RUN"),
        ("--processes", args.processes and args.out is None, "--out RUN"),
        ("--ray", args.ray is not None and args.out is None, "--out RUN"),
        ("--write-manifest", args.write_manifest and args.data is None, "--data"),
        ("--write-manifest", args.write_manifest and args.reference, "labels, not --reference"),
    ):
        if given:
            raise UsageError(f"{needless} needs {needed}")
    if args.live and (args.ray is not None or args.processes not in (None, 1)):
        raise UsageError("--live measures one bag at a time on this machine; leave --ray and --processes away")


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    from eseg_ros.evaluation.bootstrap import Resampling
    from eseg_ros.evaluation.run import Spread, evaluate_run

    sequences, source = _source(args)
    spread = Spread(args.processes or (0 if args.ray is not None else 1), args.ray is not None, args.ray or None)
    return evaluate_run(
        sequences,
        source,
        _settings(args),
        args.out,
        spread=spread,
        resampling=Resampling(args.replicates, args.block),
        command=shlex.join(["eseg", *sys.argv[1:]]),
    )


def _source(args: argparse.Namespace) -> tuple[list[FrameSequence], Source]:
    from eseg_ros.engine.manifest import load_engine
    from eseg_ros.evaluation.offline import data_name
    from eseg_ros.evaluation.run import Source
    from eseg_ros.evaluation.sequences import bag_sequences, folder_sequences

    limits = {"frames_limit": args.frames}
    sequences: list[FrameSequence]
    if args.bag is None:
        classes = None if args.reference else load_engine(args.engine).manifest.classes
        sequences = [*folder_sequences(args.data, args.split, classes, limit=args.frames)]
        return sequences, Source(data_name(args.data, args.split), None if args.reference else "labels", limits)
    sequences = [
        *bag_sequences(args.bag, args.topic, label_topic=args.label_topic, label_folder=args.labels, limit=args.frames)
    ]
    truth = "labels" if args.label_topic or args.labels else None
    data = sequences[0].name if len(sequences) == 1 else f"{len(sequences)} bags"
    labels = {"label_topic": args.label_topic, "labels": args.labels and str(args.labels)}
    return sequences, Source(data, truth, {"topic": args.topic, **labels, **limits})


def _settings(args: argparse.Namespace) -> Settings:
    from eseg_ros.evaluation.evaluator import Settings
    from eseg_ros.evaluation.run import PICTURES
    from eseg_ros.evaluation.scoring import Measures

    return Settings(
        engine=args.engine.resolve(),
        runtime=args.runtime,
        threads=args.threads,
        reference=args.reference and args.reference.resolve(),
        live=args.live,
        rate=args.rate,
        measures=Measures(temporal=args.bag is not None),  # images of a data set need not be a film
        pictures=PICTURES if args.pictures is None else args.pictures,
        masks=args.masks,
    )
