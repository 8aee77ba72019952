"""The kernels as the driver loads them: the fatbin that is shipped, or one compiled for this machine.

The shipped fatbin needs no compiler on the vehicle, but a driver at least as new as the compiler that made it. An older
driver (JetPack 5 and 6, say) gets the kernels compiled by its own machine's nvcc or NVRTC, once, when the node is
configured.

After a change in kernels/: `python -m eseg_ros.runtime.cuda.kernel_module` (needs nvcc 13).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eseg_ros.engine.manifest import write_atomically
from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver

KERNELS = Path(__file__).parent / "kernels"
FATBIN = KERNELS / "eseg_kernels.fatbin"
FATBIN_ORIGIN = FATBIN.with_suffix(".json")
"""What the fatbin was made from: the hash of its sources and its own, architectures, compiler."""

DEVICE_SOURCE = "kernels.cu"
HOST_SOURCE = "host.cpp"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_110", "sm_120", "compute_120")
"""GPUs that the fatbin has machine code for (8.7 is Jetson Orin, 11.0 Jetson Thor); PTX last, for GPUs to come."""

FLAGS = ("--std=c++17", "--fmad=false")
"""Of nvcc and NVRTC. No fused multiply-add: the arithmetic is that of the host build, which the tests check."""

OLDEST_CUDA = 11
"""JetPack 5 has it; older ones know neither the GPUs nor C++17."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loaded module and its two kernels, as the driver's handles."""

    module: int
    preprocess: int
    postprocess: int


def load_kernels(driver: Driver, info: DeviceInfo) -> Kernels:
    """Load the shipped fatbin or, where nothing in it fits, what this machine's compiler makes; blocks.

    Raises:
        RuntimeUnavailableError: the shipped fatbin does not fit and there is no compiler, or it failed.
        DeviceError: the driver refused what was compiled here.
    """
    try:
        module = driver.load_module(fatbin())
    except DeviceError as refusal:
        try:
            module = driver.load_module(compiled_here(info))
        except RuntimeUnavailableError as error:
            raise RuntimeUnavailableError(
                f"the CUDA kernels shipped with eseg_ros do not run on {info.name} ({refusal}), and cannot be built "
                f"here: {error}"
            ) from refusal
    try:
        return Kernels(module, driver.function(module, "eseg_preprocess"), driver.function(module, "eseg_postprocess"))
    except BaseException:
        driver.unload_module(module)
        raise


def fatbin() -> bytes:
    """The shipped fatbin.

    Raises:
        RuntimeUnavailableError: the package was installed without it.
    """
    try:
        return FATBIN.read_bytes()
    except OSError as error:
        raise RuntimeUnavailableError(
            f"the CUDA kernels are missing from this installation of eseg_ros ({error}); install it again"
        ) from error


def compiled_here(info: DeviceInfo) -> bytes:
    """The kernels as machine code for this device, from the user's cache or compiled into it, which takes seconds.

    Raises:
        RuntimeUnavailableError: no compiler that the driver understands is found, or it refused.
    """
    major, minor = info.driver_version // 1000, info.driver_version % 1000 // 10
    compiler = find_compiler(major)
    if compiler is None:
        package = "nvidia-cuda-nvrtc" + (f"-cu{major}" if major < 13 else "")
        raise RuntimeUnavailableError(
            f"found neither NVRTC nor nvcc of CUDA {major} or older, which is what the driver understands. Install "
            f"one of them: sudo apt install cuda-nvrtc-{major}-{minor}, or: pip install {package}"
        )
    architecture = "sm_{}{}".format(*info.capability)
    cached = _cache_folder() / f"{source_hash()[:16]}-{architecture}-{compiler.name}.cubin"
    if cached.exists():
        return cached.read_bytes()
    code = compiler.compile(architecture)
    with suppress(OSError):  # a full or read-only disk costs a compilation at every start, no more
        write_atomically(cached, code)
    return code


def find_compiler(newest: int) -> Nvrtc | Nvcc | None:
    """NVRTC, which needs no host compiler, or else nvcc, of CUDA `newest` or of an older major version."""
    for path in _nvrtc_libraries(newest):
        with suppress(OSError):
            return Nvrtc(path)
    for path in _nvcc_programs():
        with suppress(OSError):
            compiler = Nvcc(path)
            if int(compiler.version.split(".")[0]) <= newest:
                return compiler
    return None


class Nvcc:
    """NVIDIA's compiler driver, of a CUDA toolkit.

    Attributes:
        version: e.g. "13.0.88".
        name: with the version, e.g. "nvcc-13.0.88".

    Raises:
        OSError: the program does not say its version.
    """

    def __init__(self, path: str) -> None:
        text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"V(\d+\.\d+\.\d+)", text)
        if version is None:
            raise OSError(f"{path} --version gives no version")
        self.version = version[1]
        self.name = f"nvcc-{self.version}"
        self._path = path

    def compile(self, architecture: str) -> bytes:
        """The kernels as a cubin.

        Raises:
            RuntimeUnavailableError: nvcc refused; the message is its own.
        """
        return self._run("--cubin", _target(architecture))

    def compile_all(self, architectures: Sequence[str]) -> bytes:
        """The kernels as a compressed fatbin; no warning is let through.

        Raises:
            RuntimeUnavailableError: nvcc refused; the message is its own.
        """
        strict = ("--Werror", "all-warnings")
        return self._run("--fatbin", "--compress-mode=size", *strict, *(_target(name) for name in architectures))

    def _run(self, *options: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "kernels"
            command = [self._path, *FLAGS, *options, str(KERNELS / DEVICE_SOURCE), "-o", str(output)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()}")
            return output.read_bytes()


def _target(architecture: str) -> str:
    """nvcc's option for machine code ("sm_87") or PTX ("compute_120")."""
    return f"--generate-code=arch={architecture.replace('sm_', 'compute_')},code={architecture}"


class Nvrtc:
    """NVIDIA's run-time compilation library, of a CUDA toolkit or a wheel.

    Attributes:
        name: with the version, e.g. "nvrtc-12.6".

    Raises:
        OSError: there is no such library.
    """

    def __init__(self, path: str) -> None:
        if os.path.dirname(path):
            for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))  # the library would look for it in the system's folders only
        self._library = ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.name = f"nvrtc-{major.value}.{minor.value}"

    def compile(self, architecture: str) -> bytes:
        """The kernels as a cubin.

        Raises:
            RuntimeUnavailableError: NVRTC refused; the message is its log.
        """
        sources = _sources(DEVICE_SOURCE)
        text = sources.pop(DEVICE_SOURCE)
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            text,
            DEVICE_SOURCE.encode(),
            len(sources),
            _strings(sources.values()),
            _strings(name.encode() for name in sources),
        )
        try:
            options = _strings(flag.encode() for flag in (*FLAGS, f"--gpu-architecture={architecture}"))
            try:
                self._call("nvrtcCompileProgram", program, len(options), options)
            except RuntimeUnavailableError as error:
                log = self._read("ProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
                raise RuntimeUnavailableError(f"{error}\n{log}") from None
            return self._read("CUBIN", program)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _read(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeUnavailableError(f"{function}: {self._library.nvrtcGetErrorString(code).decode()}")


def source_hash(entry: str = DEVICE_SOURCE, flags: Sequence[str] = FLAGS) -> str:
    """SHA-256 of all that decides what is compiled: DEVICE_SOURCE or HOST_SOURCE, the headers, the flags."""
    digest = hashlib.sha256(" ".join(flags).encode())
    for name, text in _sources(entry).items():
        digest.update(f"\n{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def build_fatbin() -> None:
    """Compile the fatbin that is shipped, and write beside it what it was made from and for.

    Raises:
        RuntimeUnavailableError: there is no nvcc, or it refused.
    """
    program = next(_nvcc_programs(), None)
    if program is None:
        raise RuntimeUnavailableError("nvcc is not found; install the CUDA toolkit 13 or put its bin folder into PATH")
    compiler = Nvcc(program)
    code = compiler.compile_all(ARCHITECTURES)
    origin = {
        "source_sha256": source_hash(),
        "fatbin_sha256": hashlib.sha256(code).hexdigest(),
        "architectures": ARCHITECTURES,
        "compiler": compiler.name,
    }
    write_atomically(FATBIN, code)
    write_atomically(FATBIN_ORIGIN, (json.dumps(origin, indent=2) + "\n").encode())


def _sources(entry: str) -> dict[str, bytes]:
    """The headers and the translation unit that includes them, by file name."""
    return {path.name: path.read_bytes() for path in (*sorted(KERNELS.glob("*.h")), KERNELS / entry)}


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "eseg_ros" / "kernels"


def _nvcc_programs() -> Iterator[str]:
    """Every nvcc that can be found, the one in PATH first."""
    for folder in (None, *(str(toolkit / "bin") for toolkit in _toolkits())):
        if program := shutil.which("nvcc", path=folder):
            yield program


def _nvrtc_libraries(newest: int) -> Iterator[str]:
    """Names and paths under which NVRTC may be found: CUDA `newest`, then older ones."""
    wheels = importlib.util.find_spec("nvidia")
    folders = [toolkit / "lib64" for toolkit in _toolkits()]
    for root in (wheels and wheels.submodule_search_locations) or ():
        folders += sorted(Path(root).glob("*/lib"))
    for major in range(newest, OLDEST_CUDA - 1, -1):
        name = f"libnvrtc.so.{major}" if major > 11 else "libnvrtc.so.11.2"  # as all of CUDA 11 from 11.2 on is called
        yield from (name, *(str(folder / name) for folder in folders))


def _toolkits() -> list[Path]:
    """Where CUDA toolkits lie, the one that the user names first, then from new to old."""
    named = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return [*named, *sorted(Path("/usr/local").glob("cuda*"), reverse=True)]


def _strings(values: Iterable[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """A C array of strings."""
    items = list(values)
    return (ctypes.c_char_p * len(items))(*items)


if __name__ == "__main__":
    build_fatbin()
