"""`eseg`: one sub-command a job.

Each job is a module with `add_arguments(parser)` and `run(arguments) -> exit status`; the modules import what is heavy
only when they run, so that `eseg --help` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from eseg_ros import __version__
from eseg_ros.errors import EsegError

JOBS: dict[str, tuple[str, str]] = {
    "doctor": ("eseg_ros.doctor.command", "say what this machine lacks for the node, and how to mend it"),
    "demo": ("eseg_ros.evaluation.demo_command", "a drive goes in, masks come out: node, replay, score, report"),
    "bag": ("eseg_ros.bag.command", "create, render or play bags"),
    "models": ("eseg_ros.models.command", "list the networks, their size and what each is good for"),
    "data check": ("eseg_ros.data.check_command", "read a data set once and name its bad files"),
    "data render": ("eseg_ros.rendering.command", "render street scenes with exact labels"),
    "train": ("eseg_ros.training.command", "train a model by a recipe"),
    "runs": ("eseg_ros.training.runs_command", "list and compare training runs, write their reports anew"),
    "pseudo-label": ("eseg_ros.training.pseudo_label_command", "label frames that have none with a trained network"),
    "export": ("eseg_ros.engine.export_command", "make an engine from a checkpoint, or fit one to another size"),
    "quantize": ("eseg_ros.engine.quantize_command", "make an fp16 or int8 engine from an fp32 one"),
    "verify": ("eseg_ros.engine.verify_command", "hold an engine against another one on a data set"),
    "release": ("eseg_ros.engine.release_command", "from a training run to verified engines, in one line"),
    "build": ("eseg_ros.engine.build_command", "build TensorRT plans, list and prune them"),
    "evaluate": ("eseg_ros.evaluation.command", "score an engine on a data set or on bags"),
    "compare": ("eseg_ros.evaluation.compare_command", "say whether one run is better than another, and where"),
    "bench": ("eseg_ros.evaluation.bench_command", "time engines, stage by stage, side by side"),
    "soak": ("eseg_ros.evaluation.soak_command", "run the node on a looping bag and watch what it holds"),
}
"""Command words -> (module, help)."""

EXTRAS: dict[str, str] = {
    **dict.fromkeys(("torch", "lightning", "tensorboard", "onnxscript"), "train"),
    **dict.fromkeys(("openvino", "onnxruntime"), "cpu"),
    "onnx": "quantize",
    "rosbags": "bag",
    "ray": "ray",
    "rclpy": "jazzy",
}
"""Optional packages by the name that they are imported by -> the extra of setup.py that installs them."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="eseg", description="ESeg semantic segmentation for ROS 2.")
    parser.add_argument("--version", action="version", version=f"eseg_ros {__version__}")
    jobs = parser.add_subparsers(metavar="JOB", required=True)
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for words, (module_name, help_text) in JOBS.items():
        group, _, name = words.rpartition(" ")
        if group and group not in groups:
            groups[group] = jobs.add_parser(group, help=f"{group} jobs").add_subparsers(metavar="JOB", required=True)
        job = (groups[group] if group else jobs).add_parser(name, help=help_text, description=help_text)
        module = importlib.import_module(module_name)
        module.add_arguments(job)
        job.set_defaults(run_job=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns its exit status. Errors made for people are printed without a traceback, others are bugs."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run_job(options))
    except (EsegError, FileNotFoundError) as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        return _fail(_how_to_install(package))
    except KeyboardInterrupt:
        print("eseg: interrupted", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"eseg: {message}", file=sys.stderr)
    return 1


def _how_to_install(package: str) -> str:
    extra = EXTRAS[package]
    ways = [f"pip install 'eseg_ros[{extra}]'", f"in the sources: pip install -e '.[{extra}]'"]
    if package == "rclpy":
        ways.insert(0, "source a ROS 2 installation")
    return f"this needs {package}, which is not installed: {', or '.join(ways)}"


if __name__ == "__main__":
    sys.exit(main())
