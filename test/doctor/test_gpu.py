"""What is said of the GPU. The driver is a function that answers or refuses as the real one does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eseg_ros.doctor.finding import Finding
from eseg_ros.doctor.gpu import Gpu, check_gpu
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.imports import Module
from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.runtime.cuda.driver import DeviceInfo

ORIN_FILES = {
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit\0",
}
KERNEL_DRIVER = {
    "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024\n"
}
PCI_GPU = {
    "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "/sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    "/sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",  # the same card's sound
    "/sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
}
DESKTOP = Gpu(DeviceInfo("NVIDIA RTX A2000", (8, 6), False, 13000, 6 << 30), "cuda.bindings 13.0", "")
ORIN = Gpu(DeviceInfo("Orin", (8, 7), True, 12060, 8 << 30), "pycuda 2026.1", "")
BINDINGS = {"cuda.bindings.driver": Module("13.0")}
NO_DRIVER = "this machine has no NVIDIA driver (libcuda.so.1: cannot open shared object file)"
MachineMaker = Callable[..., Host]
FindingLookup = Callable[..., Finding]


def refuse(error: Exception) -> Callable[[], Gpu]:
    def raise_it() -> Gpu:
        raise error

    return raise_it


def driver_fails(text: str) -> Callable[[], None]:
    def raise_it() -> None:
        raise RuntimeUnavailableError(text)

    return raise_it


def check(host: Host, gpu: Gpu) -> list[Finding]:
    return list(check_gpu(host, lambda: None, lambda: gpu))


def test_a_machine_without_a_gpu_has_nothing_to_fix_and_none_is_opened(machine: MachineMaker) -> None:
    never = refuse(AssertionError("no GPU, and yet it was opened"))

    findings = list(check_gpu(machine(), driver_fails(NO_DRIVER), never))

    assert [(finding.level, finding.text) for finding in findings] == [("ok", "no NVIDIA GPU: engines run on the CPU")]


def test_a_gpu_without_a_driver_gets_one(machine: MachineMaker, about: FindingLookup) -> None:
    findings = check_gpu(machine(PCI_GPU), driver_fails(NO_DRIVER))

    finding = about(findings, "an NVIDIA GPU at PCI 0000:01:00.0: this machine has no NVIDIA driver")

    assert (finding.level, finding.stops_node) == ("fix", False)
    assert finding.commands == ("sudo ubuntu-drivers install && sudo reboot",)


def test_a_container_that_was_not_given_the_gpu_is_started_with_it(machine: MachineMaker, about: FindingLookup) -> None:
    host = machine({**KERNEL_DRIVER, "/.dockerenv": ""})

    finding = about(check_gpu(host, driver_fails(NO_DRIVER)), "NVIDIA driver 550.54.14 in the kernel")

    assert "--gpus all" in finding.commands[0]


def test_a_driver_that_is_too_old_is_to_be_updated(machine: MachineMaker, about: FindingLookup) -> None:
    too_old = "the NVIDIA driver is too old, it has no cuLaunchHostFunc; expected one for CUDA 11.4 or newer"

    finding = about(check_gpu(machine(KERNEL_DRIVER), driver_fails(too_old)), "too old")

    assert (finding.level, finding.commands) == ("fix", ("sudo ubuntu-drivers install && sudo reboot",))


def test_with_a_driver_but_no_library_to_call_it_cuda_bindings_is_installed(
    machine: MachineMaker, about: FindingLookup
) -> None:
    missing = refuse(RuntimeUnavailableError("pycuda cannot be imported; cuda.bindings cannot be imported"))

    finding = about(check_gpu(machine(KERNEL_DRIVER), lambda: None, missing), "the GPU cannot be used")

    assert finding.commands == ("pip install cuda-bindings",)


def test_a_driver_that_refuses_is_asked_by_nvidia_smi(machine: MachineMaker, about: FindingLookup) -> None:
    mismatch = refuse(DeviceError("cuInit: system has unsupported display driver / cuda driver combination"))

    finding = about(check_gpu(machine(KERNEL_DRIVER, modules=BINDINGS), lambda: None, mismatch), "unsupported")

    assert finding.level == "fix"
    assert finding.commands[0].startswith("nvidia-smi")


def test_a_user_who_may_not_use_a_jetsons_gpu_joins_its_group(machine: MachineMaker, about: FindingLookup) -> None:
    refused = refuse(RuntimeUnavailableError("there is no CUDA device 0"))

    finding = about(check_gpu(machine(ORIN_FILES, modules=BINDINGS), lambda: None, refused), "no CUDA device 0")

    assert finding.commands[0].startswith("sudo usermod -aG video")


def test_a_jetson_in_order_is_named_with_its_jetpack(machine: MachineMaker, about: FindingLookup) -> None:
    findings = check(machine(ORIN_FILES, modules={"tensorrt": Module("10.3.0")}), ORIN)

    assert {finding.level for finding in findings} == {"ok"}
    assert about(findings, "Jetson Orin Nano").text.endswith("Jetson Linux 36.4.3 (JetPack 6)")
    assert about(findings, "compute capability 8.7").text == (
        "Orin, compute capability 8.7, 8.0 GiB shared with the processor; driver CUDA 12.6, through pycuda 2026.1"
    )


def test_a_desktop_in_order(machine: MachineMaker, about: FindingLookup) -> None:
    findings = check(machine(KERNEL_DRIVER, modules={"tensorrt": Module("11.4.0.5")}), DESKTOP)

    assert {finding.level for finding in findings} == {"ok"}
    assert about(findings, "RTX A2000").text.endswith("driver 550.54.14, CUDA 13.0, through cuda.bindings 13.0")


def test_kernels_that_cannot_be_built_need_the_compiler_of_the_drivers_cuda(
    machine: MachineMaker, about: FindingLookup
) -> None:
    gpu = Gpu(ORIN.device, ORIN.library, "found neither NVRTC nor nvcc of CUDA 12 or older")

    finding = about(check(machine(ORIN_FILES, modules={"tensorrt": Module("10.3.0")}), gpu), "neither NVRTC nor nvcc")

    assert (finding.level, finding.commands) == ("fix", ("pip install nvidia-cuda-nvrtc-cu12",))


@pytest.mark.parametrize(
    ("files", "gpu", "remedy"),
    [(KERNEL_DRIVER, DESKTOP, "pip install tensorrt"), (ORIN_FILES, ORIN, "sudo apt install python3-libnvinfer")],
)
def test_a_gpu_without_tensorrt_idles(
    machine: MachineMaker, about: FindingLookup, files: dict[str, str], gpu: Gpu, remedy: str
) -> None:
    finding = about(check(machine(files), gpu), "engines run on the CPU")

    assert (finding.level, finding.stops_node, finding.commands) == ("fix", False, (remedy,))


@pytest.mark.parametrize(
    ("version", "level"),
    [("8.4.1.5", "fix"), ("8.5.2.2", "note"), ("8.6.1", "note"), ("10.3.0", "ok"), ("11.4", "ok"), ("12.0", "note")],
)
def test_tensorrt_is_held_against_the_versions_that_are_supported(
    machine: MachineMaker, about: FindingLookup, version: str, level: str
) -> None:
    findings = check(machine(KERNEL_DRIVER, modules={"tensorrt": Module(version)}), DESKTOP)

    assert about(findings, f"TensorRT {version}").level == level
