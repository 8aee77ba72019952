"""The segmentation node on a bag: `ros2 launch eseg_ros replay.launch.py bag:=/data/drive image_topic:=/front/image`.

Takes the arguments of eseg.launch.py too; `--show-args` lists all. The player publishes /clock, and the node takes its
time from there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from eseg_ros.share import find_engine

LAUNCH = Path(get_package_share_directory("eseg_ros")) / "launch"
ARGUMENTS = {
    "bag": (None, "bag folder, .mcap or .db3 file"),
    "rate": ("1.0", "times the recorded speed"),
    "loop": ("false", "true: begin again at the end, until interrupted"),
    "evaluate": ("", "folder: when the bag has been played, score `engine` on it and write the report there"),
    "label_topic": ("", "with evaluate: the bag's topic of class ids; empty: it has none"),
    "use_sim_time": ("true", "false: the node goes by the wall clock, not by the bag's"),
    "lazy": ("false", "true: the bag begins only when somebody listens to an output of the node"),
}
WAIT_S = "120"
"""Engines may take long to load, and the bag must not begin before; a node that is not lazy subscribes right after."""


def start_player(context: LaunchContext) -> list[Node | RegisterEventHandler]:
    """The player, which waits until the node takes images, and what comes after it."""
    given = {name: LaunchConfiguration(name).perform(context) for name in (*ARGUMENTS, "engine", "image_topic")}
    loop = ["--loop"] if given["loop"].lower() == "true" else []
    wait = ["--wait-for-subscribers", "1", "--wait-timeout", WAIT_S]
    player = Node(
        package="eseg_ros",
        executable="bag_player",
        name="bag_player",
        arguments=[given["bag"], "--rate", given["rate"], *loop, *wait],
        output="screen",
        emulate_tty=True,
    )
    if not given["evaluate"]:
        return [player]
    evaluation = evaluate(given)

    def when_played(event: ProcessExited, _: LaunchContext) -> ExecuteProcess | Shutdown:
        return evaluation if event.returncode == 0 else Shutdown(reason="the bag could not be played")

    return [player, RegisterEventHandler(OnProcessExit(target_action=player, on_exit=when_played))]


def evaluate(given: dict[str, str]) -> ExecuteProcess:
    """`eseg evaluate` on every frame of the bag; the launch ends with it."""
    if not given["engine"] or given["loop"].lower() == "true":
        raise ValueError("evaluate:= needs engine:=NAME, which it scores, and a bag that ends: leave loop:=true away")
    command = [sys.executable, "-m", "eseg_ros.cli", "evaluate", "--engine", str(find_engine(given["engine"]))]
    command += ["--bag", given["bag"], "--out", given["evaluate"]]
    for option, argument in (("--topic", "image_topic"), ("--label-topic", "label_topic")):
        command += [option, given[argument]] if given[argument] else []
    return ExecuteProcess(cmd=command, output="screen", on_exit=[Shutdown(reason="the bag has been evaluated")])


def generate_launch_description() -> LaunchDescription:
    """Arguments, the vehicle's launch file, the player."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=text)
                for name, (value, text) in ARGUMENTS.items()
            ),
            # Before the player, which needs the arguments and the shared-memory profile that are set there.
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(LAUNCH / "eseg.launch.py"))),
            OpaqueFunction(function=start_player),
        ]
    )
