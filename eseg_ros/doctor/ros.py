"""ROS 2: which distribution, whether the node's part of it can be imported, and what decides who hears whom."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eseg_ros.doctor.finding import Finding, fix, note, ok
from eseg_ros.doctor.host import RMW_IN_USE, ROS_MODULES, Host
from eseg_ros.doctor.packages import is_built_for_numpy_1

DEFAULT_RMW = "rmw_fastrtps_cpp"
_OPTIONAL = {
    "vision_msgs.msg": "~/vision_label_info",
    "cv_bridge": "encodings that eseg_ros does not decode itself",
    "diagnostic_updater": "diagnostics through it",
}
_NEEDED = [name for name in ROS_MODULES if name not in _OPTIONAL and name not in ("rclpy", RMW_IN_USE)]
_LARGEST_DOMAIN, _LARGEST_SAFE_DOMAIN = 232, 101


def check_ros(host: Host) -> Iterator[Finding]:
    """The distribution, rclpy and messages, the middleware, the domain, and the optional packages."""
    yield from _rclpy(host)
    if host.works("rclpy"):
        yield from _messages(host)
        yield _middleware(host)
        yield from _optional(host)
    yield from _discovery(host)


def distribution(host: Host) -> str:
    """ "jazzy", of the sourced installation or of the wheels; "" if there is neither."""
    wheels = (re.fullmatch(r"ros-([a-z]+)-rclpy", name) for name in host.packages)
    return host.environment.get("ROS_DISTRO") or next((wheel[1] for wheel in wheels if wheel), "")


def middleware(host: Host) -> str:
    """The RMW implementation that nodes started from here use."""
    if host.works(RMW_IN_USE):
        return host.modules[RMW_IN_USE].version
    return host.environment.get("RMW_IMPLEMENTATION") or DEFAULT_RMW


def _rclpy(host: Host) -> Iterator[Finding]:
    sourced = host.environment.get("ROS_DISTRO")
    rclpy = host.modules.get("rclpy")
    name = distribution(host)
    if rclpy is None:
        where = f"ROS 2 {sourced} is sourced, but has no rclpy" if sourced else "no ROS 2 is sourced or installed"
        yield fix(f"{where} for Python {_dotted(host.python)}", *_get_ros(host), stops_node=True)
    elif rclpy.error:
        yield _broken_rclpy(host, rclpy.error)
    elif sourced:
        yield ok(f"ROS 2 {sourced}, sourced")
    elif name:
        yield ok(f"ROS 2 {name}, wheels from PyPI: rclpy and messages, without ros2 and launch")
    else:
        yield ok("rclpy, from an installation that does not say which ROS 2 it is")


def _get_ros(host: Host) -> Iterator[str]:
    installed = sorted(path.parent.name for path in host.path("/opt/ros").glob("*/setup.bash"))
    if installed:
        yield f"source /opt/ros/{installed[-1]}/setup.bash"
    else:
        yield f"{host.pip} 'eseg_ros[jazzy]'   # x86-64; else https://docs.ros.org/en/jazzy/Installation.html"


def _broken_rclpy(host: Host, error: str) -> Finding:
    chosen = host.environment.get("RMW_IMPLEMENTATION")
    if chosen and "rmw" in error.lower():
        return _missing_middleware(host, chosen)
    pythons = re.findall(r"/opt/ros/\w+/\S*?python3\.(\d+)", host.environment.get("PYTHONPATH", ""))
    if pythons and int(pythons[0]) != host.python[1]:
        other = f"3.{pythons[0]}"
        return fix(
            f"ROS 2 {distribution(host)} is for Python {other}, and this is Python {_dotted(host.python)}",
            f"python{other} -m venv --system-site-packages .venv   # and install eseg_ros there",
            stops_node=True,
        )
    return fix(f"rclpy cannot be imported: {error}", *_get_ros(host), stops_node=True)


def _missing_middleware(host: Host, chosen: str) -> Finding:
    commands = ["unset RMW_IMPLEMENTATION"]
    if host.environment.get("ROS_DISTRO"):
        commands.insert(0, f"sudo apt install {_apt(host, chosen)}   # or:")
    return fix(f"RMW_IMPLEMENTATION is {chosen}, which is not installed", *commands, stops_node=True)


def _messages(host: Host) -> Iterator[Finding]:
    for name in _NEEDED:
        if not host.works(name):
            package = name.partition(".")[0]
            why = f"cannot be imported: {host.modules[name].error}" if name in host.modules else "is not installed"
            yield fix(f"{package} {why}", _install(host, package), stops_node=True)


def _middleware(host: Host) -> Finding:
    name = middleware(host)
    chosen = host.environment.get("RMW_IMPLEMENTATION")
    if not host.works(RMW_IN_USE):
        return _missing_middleware(host, name)
    if name == "rmw_zenoh_cpp":
        return note(f"middleware {name}: nodes find each other through its router", "ros2 run rmw_zenoh_cpp rmw_zenohd")
    return ok(f"middleware {name}, " + ("by RMW_IMPLEMENTATION" if chosen else "the default"))


def _discovery(host: Host) -> Iterator[Finding]:
    text = host.environment.get("ROS_DOMAIN_ID") or "0"
    if not text.isdecimal() or int(text) > _LARGEST_DOMAIN:
        yield fix(
            f"ROS_DOMAIN_ID is {text!r}; expected 0 to {_LARGEST_SAFE_DOMAIN}",
            "export ROS_DOMAIN_ID=0",
            stops_node=True,
        )
    elif int(text) > _LARGEST_SAFE_DOMAIN:
        yield note(
            f"ROS_DOMAIN_ID {text}: its ports can be those that Linux gives to other programs; 0 to "
            f"{_LARGEST_SAFE_DOMAIN} are safe"
        )
    else:
        yield ok(f"ROS_DOMAIN_ID {text}: camera drivers and viewers must have the same")
    area = host.environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    if area == "OFF":
        yield note(
            "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nodes find only ROS_STATIC_PEERS",
            "unset ROS_AUTOMATIC_DISCOVERY_RANGE",
        )
    elif area == "LOCALHOST" or host.environment.get("ROS_LOCALHOST_ONLY") == "1":
        yield note(
            "only nodes of this machine are found, none of others",
            "unset ROS_LOCALHOST_ONLY ROS_AUTOMATIC_DISCOVERY_RANGE",
        )


def _optional(host: Host) -> Iterator[Finding]:
    works = [name.partition(".")[0] for name in _OPTIONAL if host.works(name)]
    missing = [name for name in _OPTIONAL if name not in host.modules]
    if works:
        yield ok(f"also there: {', '.join(works)}")
    for name in _OPTIONAL:
        error = host.modules[name].error if name in host.modules else ""
        if error:
            remedy = f"{host.pip} 'numpy<2'" if is_built_for_numpy_1(error) else _install(host, name.partition(".")[0])
            yield note(f"{name} cannot be imported and is left aside, so no {_OPTIONAL[name]}: {error}", remedy)
    if missing:
        names = [name.partition(".")[0] for name in missing]
        uses = ", ".join(f"{name} ({_OPTIONAL[module]})" for name, module in zip(names, missing, strict=True))
        if host.environment.get("ROS_DISTRO"):
            yield note(f"optional, not installed: {uses}", f"sudo apt install {_apt(host, *names)}")
        else:
            yield note(f"optional, come only with a sourced ROS 2: {uses}")


def _install(host: Host, package: str) -> str:
    if host.environment.get("ROS_DISTRO"):
        return f"sudo apt install {_apt(host, package)}"
    return f"{host.pip} ros-{distribution(host) or 'jazzy'}-{package.replace('_', '-')}"


def _apt(host: Host, *packages: str) -> str:
    return " ".join(f"ros-{distribution(host)}-{package.replace('_', '-')}" for package in packages)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
