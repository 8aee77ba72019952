"""The real pycuda and the real cuda.bindings pass the conformance tests, on a libcuda that needs no GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cuda import CannotBuildError, build_libcuda, build_pycuda

from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime.cuda.drivers import open_driver

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(command: list[str], *paths: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own, for which the fake is the machine's driver."""
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = str(libcuda())
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, *paths)))
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def libcuda() -> Path:
    """The folder with the fake, or no test."""
    try:
        return build_libcuda()
    except CannotBuildError as error:
        pytest.skip(str(error))


def assert_conforms(kind: str, *paths: Path) -> None:
    """Run the suite for one driver."""
    suite = str(HERE / "native_driver_suite.py")
    options = ["-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=60", "-k", kind]
    done = run(["-m", "pytest", *options, suite], *paths)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_pycuda_conforms() -> None:
    try:
        pycuda = build_pycuda()
    except CannotBuildError as error:
        pytest.skip(str(error))
    assert_conforms("pycuda", pycuda)


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="needs cuda-bindings")
def test_cuda_bindings_conform() -> None:
    assert_conforms("bindings")


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="needs cuda-bindings")
@pytest.mark.skipif(importlib.util.find_spec("pycuda") is not None, reason="pycuda is installed")
def test_cuda_bindings_are_taken_where_there_is_no_pycuda() -> None:
    asking = "from eseg_ros.runtime.cuda.drivers import open_driver; print(open_driver('auto').name)"
    done = run(["-c", asking])
    assert done.stdout.startswith("cuda.bindings "), done.stderr


def test_a_machine_without_a_driver_is_told_so() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    for kind in ("auto", "pycuda", "bindings"):
        with pytest.raises(RuntimeUnavailableError, match="no NVIDIA driver"):
            open_driver(kind)


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is not None, reason="pycuda is installed")
def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    asking = "from eseg_ros.runtime.cuda.drivers import open_driver; open_driver('pycuda')"
    done = run(["-c", asking])
    assert "pip install pycuda" in done.stderr
    assert "pip install cuda-bindings" in done.stderr


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'opencl'; expected one of auto, pycuda, bindings"):
        open_driver("opencl")
