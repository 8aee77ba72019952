"""`eseg train`: trains a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

RESUME_LAST = "last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "%(prog)s CONFIG.yaml [key=value ...] [--resume [CKPT]] [--dry-run]"
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="a recipe, for example one of config/train/")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="changes to the recipe, for example data.root=… optimizer.lr=1e-3",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=RESUME_LAST,
        metavar="CKPT",
        help="go on from this checkpoint, or, without CKPT, from the run's last one",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved recipe, the model's size and an estimate of time and memory, then stop",
    )


def run(args: argparse.Namespace) -> int:
    """Trains, or with --dry-run only says what would be trained. Raises an EsegError where that cannot be."""
    from eseg_ros.training.config import config_to_yaml, load_config
    from eseg_ros.training.processes import this_process

    config = load_config(args.config, args.overrides)
    if this_process().rank == 0:
        print(config_to_yaml(config), flush=True)
    if args.dry_run:
        from eseg_ros.data.class_file import find_class_set
        from eseg_ros.models.complexity import model_cost
        from eseg_ros.training.estimate import estimate_text

        height, width = config.data.size or config.augment.crop
        cost = model_cost(config.model, len(find_class_set(config.classes)), height, width)
        print(
            f"{config.model}: {cost.parameters / 1e6:.2f} M parameters, {cost.macs / 1e9:.2f} G multiply-adds "
            f"at {width}x{height}; the run would go to {config.run_dir}",
            flush=True,
        )
        print(estimate_text(config))
        return 0
    from eseg_ros.training.trainer import LAST_CHECKPOINT, train

    resume = config.run_dir / LAST_CHECKPOINT if args.resume == RESUME_LAST else args.resume
    best = train(config, None if resume is None else Path(resume))
    if this_process().rank == 0:
        print(f"best checkpoint: {best}")
    return 0
