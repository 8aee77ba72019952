"""The launch files' own decisions, on stand-ins that only record; and the layouts that they open.

ROS 2's `launch` is not on PyPI. The stand-ins take the arguments that Humble's takes, or Jazzy's, and no others.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from eseg_ros.cli import build_parser
from eseg_ros.node.outputs import IMAGE_TOPICS

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"humble": set(), "jazzy": {"respawn_max_retries"}}
"""What `launch` lets a process be told, beyond Humble's."""

ACTION = {"condition"}
PROCESS = {
    *("additional_env", "cached_output", "cmd", "cwd", "emulate_tty", "env", "log_cmd", "name", "on_exit", "output"),
    *("output_format", "prefix", "respawn", "respawn_delay", "shell", "sigkill_timeout", "sigterm_timeout", *ACTION),
}
STAND_INS: dict[str, dict[str, tuple[int, set[str]]]] = {
    "launch": {"LaunchContext": (0, set()), "LaunchDescription": (1, set())},
    "launch.actions": {
        "DeclareLaunchArgument": (1, {"default_value", "description", "choices", *ACTION}),
        "ExecuteProcess": (0, PROCESS),
        "IncludeLaunchDescription": (1, {"launch_arguments", *ACTION}),
        "OpaqueFunction": (0, {"function", "args", "kwargs", *ACTION}),
        "RegisterEventHandler": (1, ACTION),
        "SetEnvironmentVariable": (2, ACTION),
        "Shutdown": (0, {"reason", *ACTION}),
    },
    "launch.event_handlers": {"OnProcessExit": (0, {"target_action", "on_exit", "handle_once"})},
    "launch.events.process": {"ProcessExited": (0, set())},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": (1, set())},
    "launch.substitutions": {"LaunchConfiguration": (1, {"default"})},
    "launch_ros.actions": {
        "Node": (
            0,
            {
                *("arguments", "exec_name", "executable", "namespace", "package", "parameters", "remappings"),
                *("ros_arguments", *(PROCESS - {"cmd"})),
            },
        ),
    },
}
"""Module -> class -> how many positional arguments it takes and which by name."""
USUAL = {"namespace", "params_file", "use_sim_time", "log_level", "autostart", "use_respawn"}


class Recorded:
    """An action, event handler or substitution that remembers how it was made, and is made in no other way."""

    positional: int
    names: set[str]

    def __init__(self, *values: Any, **options: Any) -> None:
        kind = type(self).__name__
        assert len(values) == self.positional, f"{kind} takes {self.positional} positional arguments, not {values}"
        assert options.keys() <= self.names, f"{kind} takes no {sorted(options.keys() - self.names)}"
        self.values = values
        self.options = options

    def perform(self, context: dict[str, str]) -> str:
        return context[self.values[0]]


class Launch:
    """`ros2 launch`, as far as these files go: arguments are declared in order, included files see those before."""

    def __init__(self) -> None:
        self.arguments: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.started: list[Recorded] = []

    def run(self, file: str, **given: str) -> Launch:
        self._run(ROOT / "launch" / file, given)
        assert set(given) <= set(self.arguments)
        return self

    def node(self, executable: str) -> dict[str, Any]:
        """The options of the one node that runs an executable."""
        (node,) = [action for action in self.started if action.options.get("executable") == executable]
        return node.options

    def _run(self, path: Path, context: dict[str, Any]) -> None:
        description = runpy.run_path(str(path))["generate_launch_description"]()
        for action in description.values[0]:
            kind = type(action).__name__
            if kind == "DeclareLaunchArgument":
                name = action.values[0]
                self.arguments[name] = action.options["description"]
                context.setdefault(name, action.options["default_value"])
            elif kind == "SetEnvironmentVariable":
                self.environment[action.values[0]] = action.values[1]
            elif kind == "IncludeLaunchDescription":
                self._run(Path(action.values[0].values[0]), context)
            else:
                self.started += action.options["function"](context)


@pytest.fixture(params=list(DISTRIBUTIONS))
def launch(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Launch:
    for module, kinds in STAND_INS.items():
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
        for name, (positional, names) in kinds.items():
            newer = DISTRIBUTIONS[request.param] if names >= PROCESS - {"cmd"} else set()
            members = {"positional": positional, "names": names | newer}
            setattr(sys.modules[module], name, type(name, (Recorded,), members))
    packages = ModuleType("ament_index_python.packages")
    packages.get_package_share_directory = lambda _: str(ROOT)
    monkeypatch.setitem(sys.modules, packages.__name__, packages)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Launch()


def test_without_arguments_the_shipped_parameters_rule(launch: Launch) -> None:
    node = launch.run("eseg.launch.py").node("segmentation_node")

    assert node["parameters"] == [str(ROOT / "config" / "eseg.yaml")]
    assert node["remappings"] == []
    assert (len(launch.started), node["respawn"]) == (1, False)


def test_arguments_override_the_parameters(launch: Launch) -> None:
    launch.run("eseg.launch.py", engine="mine", use_sim_time="true", autostart="false", params_file="my.yaml")

    overrides = {"engine": "mine", "use_sim_time": True, "autostart": False}
    assert launch.node("segmentation_node")["parameters"] == ["my.yaml", overrides]


def test_autostart_is_the_nodes_own_parameter_and_so_the_same_on_every_distribution(launch: Launch) -> None:
    node = launch.run("eseg.launch.py", autostart="true").node("segmentation_node")

    assert node["parameters"][1] == {"autostart": True}
    assert "autostart" not in node  # launch_ros knows it on lifecycle nodes from Jazzy on only


def test_topics_are_remapped(launch: Launch) -> None:
    launch.run("eseg.launch.py", image_topic="/front/image_raw", remap="/left/image_raw:=/cam1/image /right:=/cam2")

    rules = [("image", "/front/image_raw"), ("/left/image_raw", "/cam1/image"), ("/right", "/cam2")]
    assert launch.node("segmentation_node")["remappings"] == rules


def test_the_shared_memory_profile_is_set_by_the_names_of_every_fast_dds(launch: Launch) -> None:
    profile = str(ROOT / "config" / "fastdds.xml")

    assert launch.run("eseg.launch.py").environment == {
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
    }


def test_a_profile_of_the_users_own_stays(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/my.xml")

    assert launch.run("eseg.launch.py").environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/my.xml"


@pytest.mark.parametrize("file", ["eseg.launch.py", "replay.launch.py"])
def test_the_usual_arguments_are_there_and_explained(launch: Launch, file: str) -> None:
    arguments = launch.run(file).arguments

    assert all(arguments.values())
    assert set(arguments) >= USUAL


def test_rviz_shows_the_topics_of_the_nodes_namespace(launch: Launch) -> None:
    launch.run("eseg.launch.py", rviz="true", namespace="/robot")
    rviz = launch.node("rviz2")

    assert rviz["namespace"] == launch.node("segmentation_node")["namespace"] == "/robot"
    shown = dict(rviz["remappings"])
    layout = yaml.safe_load(Path(rviz["arguments"][1]).read_text(encoding="utf-8"))
    assert shown == {topic: topic.removeprefix("/") for topic in topics_in(layout)}


def test_a_replay_starts_the_node_on_the_bags_time_and_the_player_behind_it(launch: Launch) -> None:
    launch.run("replay.launch.py", bag="/data/drive", rate="0.5", image_topic="/front")

    assert [action.options["executable"] for action in launch.started] == ["segmentation_node", "bag_player"]
    assert launch.node("segmentation_node")["parameters"][1] == {"use_sim_time": True, "lazy": False}
    assert launch.node("segmentation_node")["remappings"] == [("image", "/front")]
    options = build_parser().parse_args(["bag", "play", *launch.node("bag_player")["arguments"]])
    assert (str(options.bag), options.rate, options.loop) == ("/data/drive", 0.5, False)
    assert options.wait_for_subscribers == 1


def test_the_player_waits_for_a_node_that_takes_images_though_nobody_listens_yet(launch: Launch) -> None:
    launch.run("replay.launch.py", bag="b")

    assert "--wait-for-subscribers" in launch.node("bag_player")["arguments"]
    assert launch.node("segmentation_node")["parameters"][1]["lazy"] is False


def test_a_replay_can_wait_for_somebody_who_listens(launch: Launch) -> None:
    assert launch.run("replay.launch.py", bag="b", lazy="true").node("segmentation_node")["parameters"][1]["lazy"]


def test_a_replay_can_loop(launch: Launch) -> None:
    assert "--loop" in launch.run("replay.launch.py", bag="b", loop="true").node("bag_player")["arguments"]


def after_the_bag(launch: Launch, returncode: int) -> Recorded:
    """What is started when the player has ended."""
    (registered,) = [action for action in launch.started if type(action).__name__ == "RegisterEventHandler"]
    handler = registered.values[0]
    assert handler.options["target_action"].options["executable"] == "bag_player"
    return handler.options["on_exit"](SimpleNamespace(returncode=returncode), None)


def test_a_replay_ends_with_an_evaluation_if_one_is_wanted(launch: Launch) -> None:
    launch.run("replay.launch.py", bag="b", evaluate="run", engine="eseg_lite_s_street", label_topic="/labels")
    evaluation = after_the_bag(launch, returncode=0)

    options = build_parser().parse_args(evaluation.options["cmd"][3:])
    assert options.engine == ROOT / "engines" / "eseg_lite_s_street.json"
    assert ([*map(str, options.bag)], str(options.out), options.label_topic) == (["b"], "run", "/labels")
    assert options.topic is None
    assert [type(action).__name__ for action in evaluation.options["on_exit"]] == ["Shutdown"]


def test_nothing_is_evaluated_if_the_bag_could_not_be_played(launch: Launch) -> None:
    launch.run("replay.launch.py", bag="b", evaluate="run", engine="eseg_lite_s_street")

    assert type(after_the_bag(launch, returncode=1)).__name__ == "Shutdown"


@pytest.mark.parametrize("missing", [{"engine": ""}, {"engine": "mine", "loop": "true"}])
def test_an_evaluation_needs_an_engine_and_an_end(launch: Launch, missing: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="evaluate:= needs"):
        launch.run("replay.launch.py", bag="b", evaluate="run", **missing)


def topics_in(layout: Any) -> Iterator[str]:
    """Every text in a layout that is an absolute topic name."""
    if isinstance(layout, dict):
        layout = list(layout.values())
    for item in layout:
        if isinstance(item, (dict, list)):
            yield from topics_in(item)
        elif isinstance(item, str) and item.startswith("/"):
            yield item


def topics_of_the_node() -> set[str]:
    front = "/segmentation/front"
    return {f"{front}/{topic.name}" for topic in IMAGE_TOPICS} | {f"{front}/camera_info", "/diagnostics"}


def test_the_rviz_layout_shows_topics_of_the_node() -> None:
    layout = yaml.safe_load((ROOT / "config" / "eseg.rviz").read_text(encoding="utf-8"))

    assert {"/segmentation/front/overlay", "/segmentation/front/mask"} <= set(topics_in(layout)) <= topics_of_the_node()


def test_the_foxglove_layout_shows_topics_of_the_node_and_places_every_panel() -> None:
    layout = json.loads((ROOT / "config" / "eseg_foxglove.json").read_text(encoding="utf-8"))
    topics = set(topics_in(layout)) - {"/segmentation/label_info.data"}

    def placed(part: str | dict[str, Any]) -> set[str]:
        return {part} if isinstance(part, str) else placed(part["first"]) | placed(part["second"])

    assert {"/segmentation/front/overlay/compressed", "/diagnostics"} <= topics <= topics_of_the_node()
    assert placed(layout["layout"]) == set(layout["configById"])


def test_the_camera_of_the_layouts_is_that_of_the_shipped_parameters() -> None:
    parameters = yaml.safe_load((ROOT / "config" / "eseg.yaml").read_text(encoding="utf-8"))

    assert parameters["/**"]["ros__parameters"]["camera_names"] == ["front"]
