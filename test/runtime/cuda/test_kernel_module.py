"""The fatbin that is shipped belongs to its sources; where it does not fit, the machine's own compiler serves."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda import kernel_module
from eseg_ros.runtime.cuda.driver import DeviceInfo
from eseg_ros.runtime.cuda.kernel_module import (
    ARCHITECTURES,
    FATBIN,
    FATBIN_ORIGIN,
    KERNELS,
    Kernels,
    Nvcc,
    Nvrtc,
    compiled_here,
    fatbin,
    find_compiler,
    load_kernels,
    source_hash,
)
from eseg_ros.runtime.cuda.parameters import ENCODINGS, IMAGE, LIVE, POSTPROCESS, PREPROCESS

ORIN = DeviceInfo("Orin", (8, 7), integrated=True, driver_version=12060, memory=8 << 30)
STRUCTS = {
    "ImageParameters": IMAGE,
    "PreprocessParameters": PREPROCESS,
    "LiveParameters": LIVE,
    "PostprocessParameters": POSTPROCESS,
}


def rebuild(reason: str) -> str:
    return f"{reason}; rebuild it: python -m eseg_ros.runtime.cuda.kernel_module"


class Driver:
    """Loads modules but for some, and keeps what it loaded."""

    def __init__(self, *, refuses: tuple[bytes, ...] = ()) -> None:
        self.loaded: list[bytes] = []
        self._refuses = refuses

    def load_module(self, image: bytes) -> int:
        if image in self._refuses:
            raise DeviceError("CUDA_ERROR_NO_BINARY_FOR_GPU")
        self.loaded.append(image)
        return 7

    def function(self, module: int, name: str) -> int:
        return {(7, "eseg_preprocess"): 8, (7, "eseg_postprocess"): 9}[module, name]


@pytest.fixture
def old_driver() -> Driver:
    """A driver of CUDA 12, which does not load what nvcc 13 makes."""
    return Driver(refuses=(fatbin(),))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine without compilers and with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(kernel_module, "_toolkits", lambda: [tmp_path / "cuda"])
    monkeypatch.setattr(kernel_module, "_nvrtc_libraries", lambda newest: iter(()))
    return tmp_path


def install_nvcc(machine: Path, version: str, *, fails: bool = False) -> None:
    """An nvcc that writes its own arguments into its output, or says what is wrong with the sources."""
    program = machine / "cuda" / "bin" / "nvcc"
    program.parent.mkdir(parents=True, exist_ok=True)
    work = 'echo "kernels.cu(3): error" >&2; exit 1' if fails else 'echo "$@" > "$output"'
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "release, V{version}"; exit; fi\n'
        f"for output; do :; done\necho x >> {machine}/compilations\n{work}\n"
    )
    program.chmod(0o755)


@pytest.mark.parametrize("name", STRUCTS)
def test_the_structs_of_cpp_and_numpy_agree_in_every_field(name: str, tmp_path: Path) -> None:
    dtype = STRUCTS[name]
    assert dtype.fields is not None
    checks = [f"static_assert(sizeof(eseg::{name}) == {dtype.itemsize});"]
    for field, (kind, offset, *_) in dtype.fields.items():
        checks.append(f"static_assert(offsetof(eseg::{name}, {field}) == {offset});")
        checks.append(f"static_assert(sizeof(eseg::{name}::{field}) == {kind.itemsize});")
    assert_compiles(checks, tmp_path)


def test_encodings_have_the_same_numbers_in_cpp_and_python(tmp_path: Path) -> None:
    checks = [f"static_assert(eseg::{name.upper()} == {number});" for number, name in enumerate(ENCODINGS)]
    assert_compiles(checks, tmp_path)


def assert_compiles(checks: list[str], folder: Path) -> None:
    source = folder / "checks.cpp"
    source.write_text("\n".join(["#include <cstddef>", '#include "parameters.h"', *checks]))
    command = ["g++", "-std=c++17", "-fsyntax-only", f"-I{KERNELS}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_fatbin_was_built_from_these_sources() -> None:
    origin = json.loads(FATBIN_ORIGIN.read_text())
    assert origin["source_sha256"] == source_hash(), rebuild("the kernels have changed since the fatbin was built")
    assert origin["fatbin_sha256"] == hashlib.sha256(fatbin()).hexdigest(), rebuild("the fatbin is not the one named")


def test_the_fatbin_holds_code_for_every_architecture() -> None:
    assert sorted(architectures_in(fatbin())) == sorted(ARCHITECTURES), rebuild("the fatbin lacks an architecture")
    assert json.loads(FATBIN_ORIGIN.read_text())["architectures"] == list(ARCHITECTURES)


def architectures_in(image: bytes) -> Iterator[str]:
    """What `cuobjdump --list-elf --list-ptx` would list.

    A fatbin is a header of 16 bytes, magic number first, and entries: kind, version, size of the entry's header, size
    of its body, and at byte 28 the compute capability.
    """
    magic, _, position, size = struct.unpack_from("<IHHQ", image)
    assert magic == 0xBA55ED50
    assert position + size == len(image)
    while position < len(image):
        kind, _, header, body = struct.unpack_from("<HHIQ", image, position)
        (capability,) = struct.unpack_from("<I", image, position + 28)
        yield f"{ {1: 'compute', 2: 'sm'}[kind] }_{capability}"
        position += header + body


def test_the_fatbin_is_small_enough_to_live_in_the_repository() -> None:
    assert FATBIN.stat().st_size < 300_000


def test_where_the_fatbin_fits_nothing_is_compiled(machine: Path) -> None:
    driver = Driver()
    assert load_kernels(driver, ORIN) == Kernels(module=7, preprocess=8, postprocess=9)
    assert driver.loaded == [fatbin()]


def test_where_it_does_not_fit_the_kernels_are_compiled_for_the_device(machine: Path, old_driver: Driver) -> None:
    install_nvcc(machine, "12.6.68")
    assert load_kernels(old_driver, ORIN) == Kernels(module=7, preprocess=8, postprocess=9)
    arguments = old_driver.loaded[0].decode()
    assert "code=sm_87" in arguments
    assert "--fmad=false" in arguments
    assert str(KERNELS / "kernels.cu") in arguments


def test_they_are_compiled_once(machine: Path, old_driver: Driver) -> None:
    install_nvcc(machine, "12.6.68")
    load_kernels(old_driver, ORIN)
    load_kernels(old_driver, ORIN)
    assert old_driver.loaded[0] == old_driver.loaded[1]
    assert len((machine / "compilations").read_text().splitlines()) == 1


def test_another_compiler_another_device_and_other_sources_are_cached_apart(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_nvcc(machine, "12.6.68")
    compiled_here(ORIN)
    compiled_here(DeviceInfo("RTX", (8, 6), integrated=False, driver_version=12060, memory=8 << 30))
    install_nvcc(machine, "12.8.93")
    compiled_here(ORIN)
    monkeypatch.setattr(kernel_module, "source_hash", lambda: "another")
    compiled_here(ORIN)
    names = sorted(path.name for path in (machine / "cache" / "eseg_ros" / "kernels").iterdir())
    assert len(names) == 4
    assert sum("sm_87-nvcc-12.6.68" in name for name in names) == 1


def test_a_cache_that_cannot_be_written_costs_only_the_compilation(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_nvcc(machine, "12.6.68")
    (machine / "cache").write_text("a file where the folder should be")
    assert b"sm_87" in compiled_here(ORIN)


def test_a_compiler_newer_than_the_driver_is_not_taken(machine: Path) -> None:
    install_nvcc(machine, "13.0.88")
    assert find_compiler(newest=12) is None
    assert find_compiler(newest=13) is not None


def test_without_a_compiler_the_error_says_what_to_install(machine: Path, old_driver: Driver) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        load_kernels(old_driver, ORIN)
    for part in ("Orin", "CUDA_ERROR_NO_BINARY_FOR_GPU", "apt install cuda-nvrtc-12-6", "nvidia-cuda-nvrtc-cu12"):
        assert part in str(caught.value)


def test_what_a_compiler_complains_about_is_told(machine: Path, old_driver: Driver) -> None:
    install_nvcc(machine, "12.6.68", fails=True)
    with pytest.raises(RuntimeUnavailableError, match=r"kernels\.cu\(3\): error"):
        load_kernels(old_driver, ORIN)


def test_a_device_that_refuses_even_those_is_an_error_of_the_device(machine: Path) -> None:
    install_nvcc(machine, "12.6.68")
    with pytest.raises(DeviceError, match="NO_BINARY"):
        load_kernels(Driver(refuses=(fatbin(), compiled_here(ORIN))), ORIN)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_nvcc_compiles_the_sources_without_a_warning() -> None:
    assert list(architectures_in(Nvcc("nvcc").compile_all(["sm_87"]))) == ["sm_87"]


@pytest.mark.parametrize("cuda", [13, 12, 11])
def test_nvrtc_compiles_the_sources(cuda: int) -> None:
    compiler = find_compiler(cuda)
    if not isinstance(compiler, Nvrtc) or not compiler.name.startswith(f"nvrtc-{cuda}."):
        pytest.skip(f"no NVRTC of CUDA {cuda}")
    assert compiler.compile("sm_87").startswith(b"\x7fELF")
