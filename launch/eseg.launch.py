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

CONFIG = Path(get_package_share_directory("eseg_ros")) / "config"
ARGUMENTS = {
    "namespace": ("", "namespace of the node"),
    "params_file": (str(CONFIG / "eseg.yaml"), "parameters of the node"),
    "engine": ("", "name or path of an engine; empty: as params_file says"),
    "image_topic": ("", "what the topic `image` of params_file is remapped to; empty: as it is"),
    "remap": ("", "other topics of params_file, each FROM:=TO, e.g. '/left/image_raw:=/cam1/image /right:=/cam2'"),
    "use_sim_time": ("", "true: take the time from /clock; empty: as params_file says"),
    "autostart": ("", "true: configure and activate at once; empty: as params_file says"),
    "lazy": ("", "false: take images though nobody listens to the outputs; empty: as params_file says"),
    "use_respawn": ("false", "true: start the node again when it ends"),
    "rviz": ("false", "true: show the outputs of the camera `front` in rviz2"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
PROFILES_FILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its profile: 2 (Humble, Jazzy) in the first, 3 (Kilted) in the second."""
SHOWN = [f"segmentation/front/{output}" for output in ("overlay", "color_mask", "mask", "confidence")]


def segmentation_node(given: dict[str, str]) -> Node:
    """The node, with those parameters overridden that were given as arguments.

    `autostart` is the node's own parameter: it configures and activates itself on every distribution, and does so again
    after a respawn, which launch_ros' autostart (Jazzy and later) does not.
    """
    overrides: dict[str, str | bool] = {"engine": given["engine"]} if given["engine"] else {}
    overrides |= {name: given[name].lower() == "true" for name in ("use_sim_time", "autostart", "lazy") if given[name]}
    image = [f"image:={given['image_topic']}"] if given["image_topic"] else []
    return Node(
        package="eseg_ros",
        executable="segmentation_node",
        name="segmentation",
        namespace=given["namespace"],
        parameters=[given["params_file"], *([overrides] if overrides else [])],
        remappings=[tuple(rule.split(":=", 1)) for rule in (*image, *given["remap"].split())],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        respawn=given["use_respawn"].lower() == "true",
        respawn_delay=2.0,
        output="screen",
        emulate_tty=True,
    )


def rviz(given: dict[str, str]) -> Node:
    """rviz2, whose layout names the topics of a node without a namespace."""
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=given["namespace"],
        arguments=["-d", str(CONFIG / "eseg.rviz")],
        remappings=[(f"/{topic}", topic) for topic in SHOWN],
    )


def start(context: LaunchContext) -> list[Node]:
    """What is to be started by the arguments given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    return [segmentation_node(given), *([rviz(given)] if given["rviz"].lower() == "true" else [])]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the shared-memory profile unless another is set, the node."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=text)
                for name, (value, text) in ARGUMENTS.items()
            ),
            *(
                SetEnvironmentVariable(name, os.environ.get(name) or str(CONFIG / "fastdds.xml"))
                for name in PROFILES_FILES
            ),
            OpaqueFunction(function=start),
        ]
    )
