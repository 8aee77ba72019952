"""The tests for a GPU (test/gpu) pass on a libcuda that needs none, driven by the real cuda.bindings.

So all but the device itself is known to work before they come to a machine with one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_cuda import CannotBuildError, build_libcuda

ROOT = Path(__file__).parents[1]
CHOSEN = "not lost and not tensorrt and not every_encoding and not large"
"""Without what breaks the fake, what asks it for more than the driver, and what there is the host's build twice."""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("cuda") is None, reason="needs cuda-bindings")
def test_the_tests_for_a_gpu_pass_on_the_fake_libcuda() -> None:
    try:
        libcuda = build_libcuda()
    except CannotBuildError as error:
        pytest.skip(str(error))
    options = ["-q", "-p", "no:cacheprovider", "--soak-frames", "100", "-k", CHOSEN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test/gpu"],
        env={**os.environ, "LD_LIBRARY_PATH": str(libcuda)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is left out" not in done.stdout
