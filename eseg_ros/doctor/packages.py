"""Python and the packages that the node or a job of `eseg` stands on."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator

from eseg_ros import __version__
from eseg_ros.doctor.finding import Finding, fix, note, ok
from eseg_ros.doctor.host import Host

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
OLDEST_NUMPY, OLDEST_OPENCV, NEXT_OPENCV = (1, 21), (4, 5, 4), (5,)
"""As in setup.py."""

CPU_RUNTIMES = ("openvino", "onnxruntime")
_JOBS = {"rosbags": "eseg bag, demo, evaluate on bags", "torch": "eseg train, export", "ray": "eseg evaluate --ray"}
_EXTRAS = {"rosbags": "rosbags", "torch": "'eseg_ros[train]'", "ray": "'ray>=2.30'"}


def check_packages(host: Host) -> Iterator[Finding]:
    """Python, NumPy, OpenCV, the inference libraries, and what only some jobs need."""
    yield _python(host)
    yield _numpy(host)
    yield _opencv(host)
    yield from _cpu_runtimes(host)
    yield from _jobs(host)


def version_tuple(version: str) -> tuple[int, ...]:
    """ "4.14.0.94" as (4, 14, 0, 94); what follows the numbers ("rc1", "+cpu") is left out."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def _python(host: Host) -> Finding:
    text = f"Python {platform.python_version()} ({sys.executable}), eseg_ros {__version__}"
    if host.python < OLDEST_PYTHON:
        found = ".".join(map(str, host.python))
        return fix(
            f"Python {found}; eseg_ros needs 3.10 or newer",
            "python3.10 -m venv --system-site-packages .venv",
            stops_node=True,
        )
    if host.python > NEWEST_PYTHON:
        return note(f"{text}; tested up to Python 3.13")
    return ok(text)


def _numpy(host: Host) -> Finding:
    numpy = host.modules.get("numpy")
    install = f"{host.pip} 'numpy>=1.21'"
    if numpy is None:
        return fix("NumPy is not installed", install, stops_node=True)
    if numpy.error:
        return fix(f"NumPy cannot be imported: {numpy.error}", f"{install} --force-reinstall", stops_node=True)
    if version_tuple(numpy.version) < OLDEST_NUMPY:
        return fix(f"NumPy {numpy.version}; expected 1.21 or newer", install, stops_node=True)
    return ok(f"NumPy {numpy.version}")


def _opencv(host: Host) -> Finding:
    cv2 = host.modules.get("cv2")
    wheel = next((name for name in host.packages if name.startswith("opencv")), "opencv-python")
    install = f"{host.pip} '{wheel}>=4.5.4,<5'"
    if cv2 is None:
        return fix("OpenCV is not installed", install, stops_node=True)
    if cv2.error and is_built_for_numpy_1(cv2.error):
        numpy = host.modules["numpy"].version if host.works("numpy") else "2"
        return fix(
            f"this OpenCV was built for NumPy 1, but NumPy {numpy} is installed",
            f"{host.pip} 'numpy<2'",
            stops_node=True,
        )
    if "libGL" in cv2.error:
        return fix(f"OpenCV cannot be imported: {cv2.error}", "sudo apt install libgl1", stops_node=True)
    if cv2.error:
        return fix(f"OpenCV cannot be imported: {cv2.error}", f"{install} --force-reinstall", stops_node=True)
    if not OLDEST_OPENCV <= version_tuple(cv2.version) < NEXT_OPENCV:
        return fix(f"OpenCV {cv2.version}; expected 4.5.4 or newer, below 5", install, stops_node=True)
    return ok(f"OpenCV {cv2.version}")


def is_built_for_numpy_1(error: str) -> bool:
    """Whether an import failed because a library was compiled for NumPy 1 and meets NumPy 2."""
    return any(sign in error for sign in ("numpy.core.multiarray", "_ARRAY_API", "compiled using NumPy 1"))


def _cpu_runtimes(host: Host) -> Iterator[Finding]:
    """OpenVINO is the first choice, ONNX Runtime the second; one is enough."""
    working = [name for name in CPU_RUNTIMES if host.works(name)]
    for name in CPU_RUNTIMES:
        module = host.modules.get(name)
        if module is not None and module.error:
            # `auto` takes the first that is installed, working or not
            yield fix(
                f"{name} cannot be imported: {module.error}", f"{host.pip} --force-reinstall {name}", stops_node=True
            )
    if working:
        versions = [f"{name} {host.modules[name].version.partition('-')[0]}" for name in working]
        yield ok(f"inference on the CPU: {', '.join(versions)}")
    elif not any(name in host.modules for name in CPU_RUNTIMES):
        yield fix(
            "no inference library for the CPU is installed",
            f"{host.pip} openvino",
            stops_node=not host.works("tensorrt"),
        )


def _jobs(host: Host) -> Iterator[Finding]:
    there = [f"{name} {host.packages[name]}" for name in _JOBS if name in host.packages]
    missing = [name for name in _JOBS if name not in host.packages]
    if there:
        yield ok(f"for other jobs: {', '.join(there)}")
    if missing:
        needed_for = "; ".join(f"{name} ({_JOBS[name]})" for name in missing)
        yield note(
            f"not installed, and not needed by the node: {needed_for}",
            f"{host.pip} {' '.join(_EXTRAS[name] for name in missing)}",
        )
