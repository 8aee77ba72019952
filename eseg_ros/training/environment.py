"""Where a run was trained and with what, written beside it while that is known."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import lightning
import torch

import eseg_ros
from eseg_ros.engine.manifest import write_atomically
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.training.processes import this_process

ENVIRONMENT_FILE = "environment.json"


def training_device() -> torch.device:
    """What a run trains on: the first GPU that PyTorch can use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_description() -> str:
    """The device in words."""
    device = training_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def write_environment(run_dir: Path) -> None:
    """Writes the machine, the versions and the revision of the code as RUN/environment.json."""
    process = this_process()
    facts = {
        "machine": machine_description(),
        "device": device_description(),
        "processes": f"{process.world} on {process.nodes} machines",
        "versions": (
            f"eseg_ros {eseg_ros.__version__}, PyTorch {torch.__version__}, Lightning {lightning.__version__}, "
            f"Python {platform.python_version()}"
        ),
        "revision": code_revision(Path(eseg_ros.__file__).parents[1]),
        "command": shlex.join(sys.argv),
    }
    write_atomically(run_dir / ENVIRONMENT_FILE, (json.dumps(facts, indent=2) + "\n").encode())


def read_environment(run_dir: Path) -> dict[str, str]:
    """What `write_environment` wrote; empty for a run without it."""
    path = run_dir / ENVIRONMENT_FILE
    facts: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts


def code_revision(root: Path) -> str:
    """The git revision of the source tree at `root`, "-dirty" where files differ from it; words where there is none."""
    if not (root / ".git").exists():  # an installation, which may lie in a repository of something else
        return "installed package"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown: git cannot tell"
    return done.stdout.strip()
