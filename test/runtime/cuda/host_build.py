"""The kernels compiled for the host: the same per-pixel functions that nvcc compiles for the device."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np

from eseg_ros.runtime.cuda.kernel_module import HOST_SOURCE, KERNELS, source_hash
from eseg_ros.runtime.cuda.parameters import ENCODINGS, IMAGE
from eseg_ros.runtime.image import layout
from eseg_ros.runtime.types import Frame

CACHE = Path(__file__).parents[3] / "build" / "kernels"
FLAGS = ("-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-shared", "-fPIC")
"""No contraction to fused multiply-add, as in the device's build: the arithmetic is equal bit by bit."""


@lru_cache(maxsize=1)
def load_host_build(cache: Path = CACHE) -> ctypes.CDLL:
    """The library with `eseg_preprocess_host` and `eseg_postprocess_host`, compiled if its sources have changed."""
    library = cache / f"host-{source_hash(HOST_SOURCE, FLAGS)[:16]}.so"
    if not library.exists():
        compiler = shutil.which("g++")
        assert compiler, "the kernels' tests need a C++ compiler; sudo apt install g++"
        cache.mkdir(parents=True, exist_ok=True)
        temporary = library.with_suffix(f".{os.getpid()}")  # another process may compile the same
        subprocess.run([compiler, *FLAGS, str(KERNELS / HOST_SOURCE), "-o", str(temporary)], check=True)
        temporary.replace(library)
    return ctypes.CDLL(str(library))


def run_on_host(kernel: str, parameters: np.void) -> None:
    """Run "eseg_preprocess" or "eseg_postprocess" over all pixels; every address in `parameters` is a host pointer."""
    struct = np.ascontiguousarray(parameters)
    getattr(load_host_build(), f"{kernel}_host")(struct.ctypes.data_as(ctypes.c_void_p))


def image_parameters(frame: Frame) -> np.void:
    """A raw frame as the kernels read it, in the frame's own memory."""
    found = layout(frame)
    data = np.frombuffer(frame.data, np.uint8)
    encoding = ENCODINGS.index(found.encoding)
    return np.array((data.ctypes.data, encoding, found.width, found.height, found.step), IMAGE)[()]
