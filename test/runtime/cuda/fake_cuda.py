"""The fake libcuda, and a real pycuda that is linked to it; both compiled once and kept in build/.

`python test/runtime/cuda/fake_cuda.py` builds them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from host_build import FLAGS

from eseg_ros.runtime.cuda.kernel_module import HOST_SOURCE, KERNELS, source_hash

SOURCE = Path(__file__).with_name("fake_libcuda.cpp")
CACHE = Path(__file__).parents[3] / "build" / "fake_cuda"
PYCUDA_VERSION = "2026.1"


class CannotBuildError(Exception):
    """Something that the build needs is not on this machine; says what."""


def toolkit() -> Path:
    """The CUDA toolkit, for cuda.h; 13, since signatures and names change with the major version."""
    for folder in (Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")), *Path("/usr/local").glob("cuda-*")):
        header = folder / "include" / "cuda.h"
        if header.exists() and "#define CUDA_VERSION 13" in header.read_text(errors="replace"):
            return folder
    raise CannotBuildError("there is no cuda.h of CUDA 13; CUDA_HOME says where the toolkit is")


def build_libcuda() -> Path:
    """The folder with libcuda.so.1, for LD_LIBRARY_PATH."""
    if shutil.which("g++") is None:
        raise CannotBuildError("there is no g++")
    version = hashlib.sha256(SOURCE.read_bytes() + source_hash(HOST_SOURCE, FLAGS).encode()).hexdigest()[:16]
    folder = CACHE / f"libcuda-{version}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_made(CACHE)) as building:
            library = _made(Path(building) / "lib") / "libcuda.so.1"
            includes = [f"-I{toolkit() / 'include'}", f"-I{KERNELS}"]
            subprocess.run(
                ["g++", *FLAGS, *includes, "-Wl,-soname,libcuda.so.1", str(SOURCE), "-o", str(library)], check=True
            )
            library.with_name("libcuda.so").symlink_to(library.name)  # as the linker wants it
            _keep(library.parent, folder)
    return folder


def build_pycuda() -> Path:
    """The folder with pycuda, for PYTHONPATH. It takes over a minute, once; who comes meanwhile waits for it."""
    folder = CACHE / f"pycuda-{PYCUDA_VERSION}-{sys.implementation.cache_tag}"
    with (_made(CACHE) / "pycuda.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _compile_pycuda(folder)
    return folder


def _compile_pycuda(folder: Path) -> None:
    settings = {
        "CUDA_ROOT": str(toolkit()),
        "CUDADRV_LIB_DIR": [str(build_libcuda())],
        "CUDA_ENABLE_CURAND": False,
        "CXXFLAGS": ["-O0", "-w"],
        "LDFLAGS": [],
    }
    with tempfile.TemporaryDirectory(dir=_made(CACHE)) as building:
        source = _pycuda_source(Path(building))
        (source / "siteconf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
        _pip("install", "--target", f"{building}/site", str(source))
        _keep(Path(building) / "site", folder)


def _pycuda_source(folder: Path) -> Path:
    try:
        _pip("download", "--no-binary", ":all:", "--dest", str(folder), f"pycuda=={PYCUDA_VERSION}")
    except subprocess.CalledProcessError as error:
        raise CannotBuildError(
            f"pycuda {PYCUDA_VERSION} cannot be downloaded: {error.stderr.strip()[-300:]}"
        ) from error
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder)
    return next(path for path in folder.glob("pycuda-*") if path.is_dir())


def _pip(command: str, *arguments: str) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments], check=True, capture_output=True, text=True
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _keep(built: Path, folder: Path) -> None:
    """Whole or not at all; another process may have been faster."""
    try:
        built.rename(folder)
    except OSError:
        assert folder.exists()


if __name__ == "__main__":
    print(build_libcuda(), build_pycuda(), sep="\n")
