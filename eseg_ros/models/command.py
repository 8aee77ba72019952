"""`eseg models`: the networks that can be trained, what they cost and what each is good for."""

from __future__ import annotations

import argparse

from eseg_ros.arguments import engine_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--size",
        type=engine_size,
        default=(2048, 1024),
        metavar="WIDTHxHEIGHT",
        help="input size that multiply-adds are counted for, pixels (default: 2048x1024, as in the papers)",
    )
    parser.add_argument(
        "--classes", type=int, default=19, metavar="N", help="number of classes (default: %(default)s, Cityscapes)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table of models."""
    from eseg_ros.models.complexity import model_cost
    from eseg_ros.models.zoo import MODELS

    width, height = args.size
    print(f"{'model':16} {'parameters':>10} {'MACs':>9} {'stride':>6}  good for")
    for name, model in MODELS.items():
        cost = model_cost(name, args.classes, height, width)
        print(
            f"{name:16} {cost.parameters / 1e6:8.2f} M {cost.macs / 1e9:7.2f} G {cost.stride:6}  {model.good_for}",
            flush=True,
        )
    print(f"MACs: multiply-adds of one {width}x{height} image. Train one: eseg train config/train/MODEL_camvid.yaml")
    return 0
