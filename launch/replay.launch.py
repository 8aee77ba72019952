"""The segmentation node on a bag: `ros2 launch eseg_ros replay.launch.py bag:=/data/drive image_topic:=/front/image`.

`--show-args` lists the arguments. The player publishes /clock, and the node takes its time from there.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("eseg_ros"))
PLAYER_ARGUMENTS = {
    "bag": (None, "bag folder, .mcap or .db3 file"),
    "rate": ("1.0", "times the recorded speed"),
    "loop": ("false", "true: begin again at the end, until interrupted"),
}
NODE_ARGUMENTS = {
    "namespace": ("", "namespace of the node"),
    "params_file": (str(SHARE / "config" / "eseg.yaml"), "parameters of the node"),
    "engine": ("", "name or path of an engine; empty: as params_file says"),
    "image_topic": ("", "the bag's image topic; empty: as params_file says"),
    "use_sim_time": ("true", "false: the node goes by the wall clock, not by the bag's"),
    "autostart": ("", "true: configure and activate at once; empty: as params_file says"),
    "use_respawn": ("false", "true: start the node again when it ends"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
# Engines may take long to load, and the bag must not begin before.
WAIT_S = "120"


def start_player(context: LaunchContext) -> list[Node]:
    """The player, which waits until the node listens."""
    bag, rate, loop = (LaunchConfiguration(name).perform(context) for name in PLAYER_ARGUMENTS)
    arguments = [bag, "--rate", rate, "--wait-for-subscribers", "1", "--wait-timeout", WAIT_S]
    return [
        Node(
            package="eseg_ros",
            executable="bag_player",
            name="bag_player",
            arguments=[*arguments, "--loop"] if loop.lower() == "true" else arguments,
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the vehicle's launch file, the player."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in {**PLAYER_ARGUMENTS, **NODE_ARGUMENTS}.items()
    ]
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "eseg.launch.py")),
        launch_arguments={name: LaunchConfiguration(name) for name in NODE_ARGUMENTS}.items(),
    )
    # In this order: the player needs the shared-memory profile that the vehicle's launch file sets.
    return LaunchDescription([*arguments, node, OpaqueFunction(function=start_player)])
