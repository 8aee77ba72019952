"""The launch file's own decisions, on stand-ins that only record.

ROS 2's `launch` is not on PyPI. That the stand-ins are called as the real one wants it is not tested here.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Launch = Callable[..., SimpleNamespace]


class Recorded:
    """An action or substitution that remembers how it was made."""

    def __init__(self, *values: Any, **options: Any) -> None:
        self.values = values
        self.options = options

    def perform(self, context: dict[str, str]) -> str:
        return context[self.values[0]]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """`launch(image_topic="/front", ...)`: the node's options, the environment that is set, the arguments explained."""
    kinds = {
        "ament_index_python.packages": ["get_package_share_directory"],
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros.actions": ["Node"],
    }
    made = {name: type(name, (Recorded,), {}) for names in kinds.values() for name in names}
    for module, names in kinds.items():
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
        for name in names:
            setattr(sys.modules[module], name, made[name])
    monkeypatch.setattr(sys.modules["ament_index_python.packages"], "get_package_share_directory", lambda _: str(ROOT))
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")

    def launch(**arguments: str) -> SimpleNamespace:
        description = runpy.run_path(str(ROOT / "launch" / "eseg.launch.py"))["generate_launch_description"]()
        actions: dict[str, list[Recorded]] = {name: [] for name in made}
        for action in description.values[0]:
            actions[type(action).__name__].append(action)
        context = {action.values[0]: action.options["default_value"] for action in actions["DeclareLaunchArgument"]}
        assert set(arguments) <= set(context)
        (function,) = actions["OpaqueFunction"]
        (node,) = function.options["function"](context | arguments)
        explained = {action.values[0]: action.options["description"] for action in actions["DeclareLaunchArgument"]}
        environment = dict(action.values for action in actions["SetEnvironmentVariable"])
        return SimpleNamespace(node=node.options, environment=environment, arguments=explained)

    return launch


def test_without_arguments_the_shipped_parameters_rule(launch: Launch) -> None:
    node = launch().node

    assert node["parameters"] == [str(ROOT / "config" / "eseg.yaml")]
    assert node["remappings"] == []
    assert (node["executable"], node["respawn"]) == ("segmentation_node", False)


def test_arguments_override_the_parameters(launch: Launch) -> None:
    node = launch(engine="mine", use_sim_time="true", autostart="false", params_file="my.yaml").node

    assert node["parameters"] == ["my.yaml", {"engine": "mine", "use_sim_time": True, "autostart": False}]


def test_the_image_topic_is_remapped(launch: Launch) -> None:
    assert launch(image_topic="/front/image_raw").node["remappings"] == [("image", "/front/image_raw")]


def test_the_shared_memory_profile_is_set(launch: Launch) -> None:
    assert launch().environment == {"FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml")}


def test_the_profile_has_its_new_name_from_kilted_on(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "kilted")

    assert list(launch().environment) == ["FASTDDS_DEFAULT_PROFILES_FILE"]


def test_a_profile_of_the_users_own_stays(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/my.xml")

    assert launch().environment == {"FASTRTPS_DEFAULT_PROFILES_FILE": "/my.xml"}


def test_the_usual_arguments_are_there_and_explained(launch: Launch) -> None:
    arguments = launch().arguments

    assert all(arguments.values())
    assert {"namespace", "params_file", "use_sim_time", "log_level", "autostart", "use_respawn"} <= set(arguments)
