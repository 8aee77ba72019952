"""The segmentation node on a vehicle: `ros2 launch eseg_ros eseg.launch.py image_topic:=/front/image_raw`.

`--show-args` lists the arguments. The camera driver needs the same Fast DDS profile, see config/fastdds.xml.
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("eseg_ros"))
ARGUMENTS = {
    "namespace": ("", "namespace of the node"),
    "params_file": (str(SHARE / "config" / "eseg.yaml"), "parameters of the node"),
    "engine": ("", "name or path of an engine; empty: as params_file says"),
    "image_topic": ("", "what the topic `image` of params_file is remapped to; empty: as it is"),
    "use_sim_time": ("", "true: take the time from /clock; empty: as params_file says"),
    "autostart": ("", "true: configure and activate at once; empty: as params_file says"),
    "use_respawn": ("false", "true: start the node again when it ends"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
PROFILES = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else "FASTDDS"
PROFILES_FILE = f"{PROFILES}_DEFAULT_PROFILES_FILE"  # Fast DDS 3 changed the name


def start_node(context: LaunchContext) -> list[Node]:
    """The node, with those parameters overridden that were given as arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides: dict[str, str | bool] = {"engine": given["engine"]} if given["engine"] else {}
    overrides |= {name: given[name].lower() == "true" for name in ("use_sim_time", "autostart") if given[name]}
    return [
        Node(
            package="eseg_ros",
            executable="segmentation_node",
            name="segmentation",
            namespace=given["namespace"],
            parameters=[given["params_file"], *([overrides] if overrides else [])],
            remappings=[("image", given["image_topic"])] if given["image_topic"] else [],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            respawn=given["use_respawn"].lower() == "true",
            respawn_delay=2.0,
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the shared-memory profile unless another is set, the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    profile = SetEnvironmentVariable(PROFILES_FILE, os.environ.get(PROFILES_FILE) or str(SHARE / "config/fastdds.xml"))
    return LaunchDescription([*arguments, profile, OpaqueFunction(function=start_node)])
