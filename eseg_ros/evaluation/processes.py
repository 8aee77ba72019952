"""Processes of ROS's side, started, heard, measured and ended from this side: the node, and what surrounds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from eseg_ros.errors import EsegError
from eseg_ros.share import share_folder

CAMERA = "camera"
MASK_TOPIC = f"/segmentation/{CAMERA}/mask"
NODE_LOG = "node.log"
PARAMETERS_FILE = "node.yaml"

_LOG_LINES = 15
_STOP_TIMEOUT_S = 15.0


class ProcessError(EsegError):
    """A process failed; the message ends with its last lines."""


def node_parameters(engine: Path, topic: str, *, compressed: bool = False) -> dict[str, Any]:
    """Parameters of the node with one camera, CAMERA, on an image topic.

    Args:
        engine: manifest.
        topic: of its images.
        compressed: whether these are CompressedImage.
    """
    camera = {"image_topic": topic, "transport": "compressed" if compressed else "raw"}
    return {"engine": str(engine.resolve()), "camera_names": [CAMERA], "cameras": {CAMERA: camera}}


@contextmanager
def running_node(
    parameters: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The segmentation node, asked to end by SIGTERM at the end; its output goes to FOLDER/node.log.

    Raises:
        ProcessError: it ended with another status than 0.
    """
    path = folder / PARAMETERS_FILE
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}), encoding="utf-8")
    command = [sys.executable, "-m", "eseg_ros.node.main", "--ros-args", "--params-file", str(path)]
    with (folder / NODE_LOG).open("wb") as log:
        node = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield node
        finally:
            status = stop_process(node)
    if status != 0:
        raise ProcessError(f"the node ended with status {status}, expected 0. {last_lines(folder / NODE_LOG)}")


@contextmanager
def running(
    name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """`python -m eseg_ros.node.NAME`, ended by SIGTERM at the end; its stderr goes to FOLDER/NAME.log.

    Raises:
        ProcessError: it ended with another status than 0.
    """
    command = [sys.executable, "-m", f"eseg_ros.node.{name}", *arguments]
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield process
        finally:
            status = stop_process(process)
            assert process.stdout is not None
            process.stdout.close()
    if status != 0:
        raise ProcessError(f"{name} ended with status {status}, expected 0. {last_lines(folder / f'{name}.log')}")


def stop_process(process: subprocess.Popen[Any]) -> int:
    """End a process by SIGTERM, and by SIGKILL if that does not help; returns its exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def ros_environment() -> dict[str, str]:
    """This process's environment with a ROS domain of its own on this machine and large images in shared memory."""
    profile = str(share_folder() / "config" / "fastdds.xml")
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),  # up to 101 its ports cannot meet the ephemeral ones
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def until_said(process: subprocess.Popen[str], word: str, log: Path) -> None:
    """Wait until a process has printed a word as a line of its own.

    Raises:
        ProcessError: it ended before.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise ProcessError(f"{log.stem} ended before it said {word!r}. {last_lines(log)}")


def last_lines(log: Path) -> str:
    """The end of a process's log, in words."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return f"The last lines of {log}:\n" + "\n".join(f"  {line}" for line in lines or ["(none)"])


def cpu_seconds(process: int) -> float:
    """CPU time that a process has taken so far, in all of its threads; see proc(5)."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    user, system = stat[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def process_holdings(process: int) -> dict[str, Any]:
    """What a process holds: memory of its own (MiB, RssAnon: without what it shares), threads, open files."""
    folder = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    return {
        "memory_mib": round(int(status["RssAnon"].split()[0]) / 1024, 2),
        "threads": int(status["Threads"]),
        "files": len(list((folder / "fd").iterdir())),
    }
