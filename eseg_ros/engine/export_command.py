"""`eseg export`: makes an engine from a checkpoint, or fits an engine to another input size."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import engine_size
from eseg_ros.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="CHECKPOINT|ENGINE",
        help="a checkpoint of `eseg train` (.ckpt), or an engine (.json) to fit to another size",
    )
    parser.add_argument("--name", required=True, help="the new engine's name: NAME.onnx and NAME.json")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--size",
        type=engine_size,
        metavar="WIDTHxHEIGHT",
        help="input size, pixels; default for a checkpoint: the size it was trained for",
    )
    parser.add_argument(
        "--data", type=Path, metavar="ROOT", help="compare with PyTorch on ROOT/val; default: on rendered frames"
    )


def run(args: argparse.Namespace) -> int:
    """Export and say what was made."""
    from eseg_ros.engine.export import export_checkpoint, resize_engine
    from eseg_ros.engine.manifest import load_engine

    if args.source.suffix == ".ckpt":
        path = export_checkpoint(args.source, args.name, args.out, args.size, args.data)
    elif args.size is None:
        raise UsageError(
            f"{args.source} is no checkpoint (.ckpt); to fit an engine to another size say which: --size 1024x512"
        )
    else:
        path = resize_engine(args.source, args.name, args.out, args.size, args.data)
    manifest = load_engine(path).manifest
    print(
        f"{path}: {manifest.model}, input {manifest.input.width}x{manifest.input.height}, "
        f"{len(manifest.classes)} classes; equals PyTorch on {manifest.parity['frames']} frames.\n"
        f"Measure it: eseg evaluate --engine {path} --data ROOT --split val --write-manifest"
    )
    return 0
