"""What the command line does with errors: those made for people are a line, bugs keep their traceback."""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import setuptools

from eseg_ros import cli
from eseg_ros.errors import EngineError, UsageError

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "cv2", "rosbags", "onnx", "onnxruntime", "openvino", "torch", "lightning", "ray", "rclpy"}

Job = Callable[[argparse.Namespace], int]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], int]:
    """`job(action)`: run `eseg models` with this action in place of its own; returns the exit status."""

    def run(action: Job) -> int:
        monkeypatch.setattr("eseg_ros.models.command.run", action)
        return cli.main(["models"])

    return run


def raising(error: BaseException) -> Job:
    def action(arguments: argparse.Namespace) -> int:
        raise error

    return action


def test_the_exit_status_is_the_jobs(job: Callable[[Job], int]) -> None:
    assert job(lambda arguments: 3) == 3


@pytest.mark.parametrize("error", [EngineError("it is cut"), UsageError("it is cut"), FileNotFoundError("it is cut")])
def test_an_error_made_for_people_is_one_line(
    job: Callable[[Job], int], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert job(raising(error)) == 1

    assert capsys.readouterr().err == "eseg: it is cut\n"


@pytest.mark.parametrize("bug", [ValueError("a bug"), KeyError("a bug"), ModuleNotFoundError("a bug", name="nupmy")])
def test_a_bug_keeps_its_traceback(job: Callable[[Job], int], bug: Exception) -> None:
    with pytest.raises(type(bug), match="a bug"):
        job(raising(bug))


def test_an_interrupted_job_says_so(job: Callable[[Job], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert job(raising(KeyboardInterrupt())) == 130

    assert capsys.readouterr().err == "eseg: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["models"], "torch"),
        (["train", str(ROOT / "config" / "train" / "eseg_lite_s_camvid.yaml"), "--dry-run"], "torch"),
        (["bag", "render", "drive"], "rosbags"),
        (["bag", "play", "drive"], "rclpy"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_extra_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], package: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("eseg_ros.") or name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # to import it is a ModuleNotFoundError now

    assert cli.main(arguments) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"eseg: this needs {package}, which is not installed: ")
    assert f"pip install 'eseg_ros[{cli.EXTRAS[package]}]'" in line


def test_every_extra_installs_what_it_is_named_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")

    for package, extra in cli.EXTRAS.items():
        wanted = f"ros-{extra}-{package}" if package == "rclpy" else package
        assert any(requirement.startswith(wanted) for requirement in given["extras_require"][extra]), package


def test_the_command_line_is_there_before_anything_heavy_is_imported() -> None:
    code = "import sys; from eseg_ros.cli import build_parser; build_parser(); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert HEAVY & {name.partition(".")[0] for name in done.stdout.split()} == set()


def test_an_argument_called_run_does_not_take_the_jobs_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "run" / "best.ckpt"
    assert cli.main(["release", str(missing), "--name", "mine", "--data", str(tmp_path)]) == 1
    assert f"{missing}: no such checkpoint" in capsys.readouterr().err
