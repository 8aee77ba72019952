"""`eseg quantize`: makes an fp16 or int8 engine from an fp32 one."""

from __future__ import annotations

import argparse
from pathlib import Path

from eseg_ros.arguments import positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("engine", type=Path, metavar="ENGINE.json", help="an fp32 engine")
    parser.add_argument("--precision", choices=("int8", "fp16"), default="int8", help="default: %(default)s")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="ROOT",
        help="data set like what the cameras will see; labels are not needed",
    )
    parser.add_argument("--split", default="train", help="default: %(default)s")
    parser.add_argument(
        "--frames", type=positive_int, default=64, metavar="N", help="spread over the split; default: %(default)s"
    )
    parser.add_argument(
        "--calibration",
        choices=("minmax", "percentile", "entropy"),
        default="percentile",
        help="how int8 scales follow from the values seen; default: %(default)s",
    )
    parser.add_argument(
        "--keep-fp32",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="parts that stay float32, e.g. head or bifpn.0.nodes.out3; find them with --rank",
    )
    parser.add_argument("--name", help="the new engine's name; default: the old one's and its precision, NAME_int8")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: the engine's folder")
    parser.add_argument(
        "--rank", action="store_true", help="write nothing; make one convolution at a time int8 and list what it costs"
    )


def run(args: argparse.Namespace) -> int:
    """Quantise and say what to do next, or rank the layers."""
    from eseg_ros.engine.manifest import load_engine, manifest_path_of
    from eseg_ros.engine.quantize import Recipe, quantize_engine, rank_layers

    recipe = Recipe(args.precision, args.data, args.split, args.frames, args.calibration, tuple(args.keep_fp32))
    if args.rank:
        for module, error in rank_layers(args.engine, recipe):
            print(f"{error:7.2%}  {module}")
        return 0
    source = manifest_path_of(args.engine)
    name = args.name or f"{source.stem}_{args.precision}"
    path = quantize_engine(source, recipe, name, args.out or source.parent)
    engine = load_engine(path)
    agreement = ", ".join(f"{found['agreement']:.2%} in {where}" for where, found in engine.manifest.parity.items())
    print(
        f"{path}: {engine.manifest.precision}, {engine.onnx.stat().st_size / 1e6:.1f} MB; "
        f"pixels as before: {agreement}\n"
        f"Judge it: eseg verify {path} --against {source} --data {args.data} --split val --write-manifest"
    )
    return 0
