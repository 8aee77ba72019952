"""What the checks look at: the machine's files, the environment, the Python that runs and what is installed in it."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eseg_ros.doctor.imports import Module, import_modules

MODULES = (
    *("numpy", "cv2", "openvino", "onnxruntime"),
    *("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "pycuda.driver", "cuda.bindings.driver"),
)
RMW_IN_USE = "rclpy.utilities:get_rmw_implementation_identifier"
ROS_MODULES = (
    *("rclpy", "sensor_msgs.msg", "std_msgs.msg", "std_srvs.srv", "diagnostic_msgs.msg", "lifecycle_msgs.msg"),
    *("rosgraph_msgs.msg", "rcl_interfaces.msg", "builtin_interfaces.msg", "ament_index_python"),
    *("vision_msgs.msg", "cv_bridge", "diagnostic_updater"),
    RMW_IN_USE,
)


@dataclass(frozen=True)
class Host:
    """A machine, real or made up by a test.

    Attributes:
        root: folder that holds its /proc, /sys, /etc and /dev.
        environment: the shell's variables.
        python: version of the running Python.
        pip: how packages are installed into that Python, e.g. "/usr/bin/python3 -m pip install".
        modules: what each of MODULES and ROS_MODULES gave when imported; absent ones are not in it.
        packages: installed distributions, name -> version.
        cores: processor cores that the scheduler gives this process.
        shm: size and free bytes of /dev/shm; None where there is none.
    """

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    python: tuple[int, int] = (3, 12)
    pip: str = "pip install"
    modules: Mapping[str, Module] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1
    shm: tuple[int, int] | None = None

    def path(self, path: str) -> Path:
        """Where an absolute path of the machine lies."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """A file's text, stripped also of NUL bytes, in which device trees end; "" if it cannot be read."""
        try:
            return self.path(path).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            return ""

    def works(self, module: str) -> bool:
        """Whether a module is installed and can be imported."""
        return module in self.modules and not self.modules[module].error

    @property
    def is_container(self) -> bool:
        """Whether this is inside a container of Docker's or Podman's."""
        return self.path("/.dockerenv").exists() or self.path("/run/.containerenv").exists()


def this_host() -> Host:
    """The machine that this runs on; takes a few seconds, most of them for imports."""
    shm = Path("/dev/shm")
    space = shutil.disk_usage(shm) if shm.is_dir() else None
    return Host(
        root=Path("/"),
        environment=dict(os.environ),
        python=sys.version_info[:2],
        pip=pip_install(),
        modules=import_modules(MODULES, ROS_MODULES),
        packages={found.metadata["Name"]: found.version for found in importlib.metadata.distributions()},
        cores=len(os.sched_getaffinity(0)),
        shm=(space.total, space.free) if space else None,
    )


def pip_install() -> str:
    """The command, without packages. A distribution that keeps its Python to itself (PEP 668) wants to be asked."""
    in_environment = sys.prefix != sys.base_prefix
    managed = (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists()
    option = " --break-system-packages" if managed and not in_environment else ""
    return f"{shlex.quote(sys.executable)} -m pip install{option}"
