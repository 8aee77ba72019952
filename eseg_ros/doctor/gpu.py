"""The GPU, and all that must be there before an engine runs on it. docs/runtime.md has the whole story."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eseg_ros.doctor.finding import Finding, fix, note, ok
from eseg_ros.doctor.host import Host
from eseg_ros.doctor.packages import version_tuple
from eseg_ros.errors import DeviceError, RuntimeUnavailableError

if TYPE_CHECKING:
    from eseg_ros.runtime.cuda.driver import DeviceInfo

OLDEST_TENSORRT, NEWEST_TENSORRT = (8, 5), 11
"""What eseg_ros/runtime/tensorrt/api.py is written for and tested with."""
GIB = 1 << 30
_JETPACKS = {35: 5, 36: 6, 38: 7}
"""Release of Jetson Linux -> JetPack."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU, opened as the node opens it.

    Attributes:
        device: what it is.
        library: through which it was opened, e.g. "pycuda 2026.1".
        refusal: why eseg_ros's own kernels do not run on it; "" if they do.
    """

    device: DeviceInfo
    library: str
    refusal: str


def load_driver() -> None:
    """Load NVIDIA's driver library.

    Raises:
        RuntimeUnavailableError: it is missing or too old.
    """
    from eseg_ros.runtime.cuda.libcuda import LibCuda

    LibCuda()


def first_gpu() -> Gpu:
    """Open the first GPU and load the kernels; compiles them if they have to be, as the node would.

    Raises:
        RuntimeUnavailableError: there is no such device, or no library to open it.
        DeviceError: the driver refuses.
    """
    from eseg_ros.runtime.cuda.drivers import open_driver
    from eseg_ros.runtime.cuda.kernel_module import load_kernels

    driver = open_driver()
    try:
        device, refusal = driver.open(0), ""
        try:
            driver.unload_module(load_kernels(driver, device).module)
        except (RuntimeUnavailableError, DeviceError) as error:
            refusal = str(error)
        return Gpu(device, driver.name, refusal)
    finally:
        driver.close()


def check_gpu(
    host: Host, load_driver: Callable[[], None] = load_driver, first_gpu: Callable[[], Gpu] = first_gpu
) -> Iterator[Finding]:
    """Jetson or not, driver, device, kernels, TensorRT."""
    jetson = _jetson(host)
    if jetson:
        yield ok(jetson)
    traces = _traces(host)
    try:
        load_driver()
    except RuntimeUnavailableError as error:
        if jetson or traces:
            yield fix(f"{', '.join(traces) or 'a Jetson'}: {error}", *_get_driver(host))
        else:
            yield ok("no NVIDIA GPU: engines run on the CPU")
        yield from _rtx(host)
        return
    try:
        gpu = first_gpu()
    except (RuntimeUnavailableError, DeviceError) as error:
        yield fix(f"the GPU cannot be used: {error}", *_open_device(host))
        return
    yield from _device(host, gpu)
    yield from _tensorrt(host)
    yield from _rtx(host)


def _jetson(host: Host) -> str:
    """ "NVIDIA Jetson Orin Nano, Jetson Linux 36.4.3 (JetPack 6)"; "" elsewhere."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", host.read("/etc/nv_tegra_release"))
    if release is None:
        return ""
    jetpack = f" (JetPack {_JETPACKS[int(release[1])]})" if int(release[1]) in _JETPACKS else ""
    model = host.read("/proc/device-tree/model") or "Jetson"
    return f"{model}, Jetson Linux {release[1]}.{release[2]}{jetpack}"


def _traces(host: Host) -> list[str]:
    """What tells of a GPU without asking it: the kernel's driver, or a display or 3D controller of NVIDIA's."""
    traces = []
    if driver := _driver_version(host):
        traces.append(f"NVIDIA driver {driver} in the kernel")
    for device in host.path("/sys/bus/pci/devices").glob("*"):
        folder = f"/sys/bus/pci/devices/{device.name}"
        if host.read(f"{folder}/vendor") == "0x10de" and host.read(f"{folder}/class").startswith("0x03"):
            traces.append(f"an NVIDIA GPU at PCI {device.name}")
    return traces


def _driver_version(host: Host) -> str:
    version = re.search(r"\s(\d+(\.\d+)+)\s", host.read("/proc/driver/nvidia/version"))
    return version[1] if version else ""


def _get_driver(host: Host) -> Iterator[str]:
    if host.is_container:
        yield "docker run --runtime nvidia --gpus all ...   # with nvidia-container-toolkit on the host"
    elif host.path("/etc/nv_tegra_release").exists():
        yield "sudo apt install nvidia-jetpack"
    else:
        yield "sudo ubuntu-drivers install && sudo reboot"


def _open_device(host: Host) -> Iterator[str]:
    if not (host.works("pycuda.driver") or host.works("cuda.bindings.driver")):
        yield f"{host.pip} cuda-bindings"
        return
    if host.path("/etc/nv_tegra_release").exists():
        yield "sudo usermod -aG video $USER   # and log in again"
    yield "nvidia-smi   # has the driver's own reason; after an update of the driver: sudo reboot"


def _device(host: Host, gpu: Gpu) -> Iterator[Finding]:
    info = gpu.device
    cuda = f"{info.driver_version // 1000}.{info.driver_version % 1000 // 10}"
    version = _driver_version(host)
    yield ok(
        f"{info.name}, compute capability {info.capability[0]}.{info.capability[1]}, {info.memory / GIB:.1f} GiB"
        f"{' shared with the processor' if info.integrated else ''}; driver {version + ', ' if version else ''}"
        f"CUDA {cuda}, through {gpu.library}"
    )
    if gpu.refusal:
        package = "nvidia-cuda-nvrtc" + (f"-cu{info.driver_version // 1000}" if info.driver_version < 13000 else "")
        yield fix(gpu.refusal, f"{host.pip} {package}")


def _tensorrt(host: Host) -> Iterator[Finding]:
    """There is a GPU, and without TensorRT engines run on the CPU all the same."""
    module = host.modules.get("tensorrt")
    on_jetson = host.path("/etc/nv_tegra_release").exists()
    install = "sudo apt install python3-libnvinfer" if on_jetson else f"{host.pip} tensorrt"
    python = ".".join(map(str, host.python))
    if module is None:
        where = (
            f"TensorRT has no module for this Python, {python} (a virtual environment sees JetPack's only with "
            "--system-site-packages)"
            if on_jetson
            else "TensorRT is not installed"
        )
        yield fix(f"{where}: engines run on the CPU, though there is a GPU", install)
    elif module.error:
        yield fix(f"TensorRT cannot be imported, engines run on the CPU: {module.error}", install)
    elif version_tuple(module.version) < OLDEST_TENSORRT:
        yield fix(f"TensorRT {module.version}; expected 8.5 or newer", install)
    elif version_tuple(module.version)[0] > NEWEST_TENSORRT:
        yield note(f"TensorRT {module.version}; tested up to {NEWEST_TENSORRT}")
    elif version_tuple(module.version)[0] < 10:
        yield note(f"TensorRT {module.version}: the models eseg_s, eseg_m and eseg_l need TensorRT 10, others run")
    else:
        yield ok(f"TensorRT {module.version}")


def _rtx(host: Host) -> Iterator[Finding]:
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        if host.works(name):
            yield ok(f"TensorRT for RTX {host.modules[name].version}: builds plans ahead, eseg build --target rtx")
            return
