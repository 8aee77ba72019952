from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from eseg_ros.node.parameters import (
    CAMERA_DECLARATIONS,
    NODE_DECLARATIONS,
    CameraParameters,
    ParameterError,
    Parameters,
)

if TYPE_CHECKING:
    from conftest import RosGraph

CONFIG = Path(__file__).parents[2] / "config" / "eseg.yaml"


def parameters_of(ros: RosGraph, **values: Any) -> tuple[Node, Parameters]:
    node = Node("node", context=ros.context, parameter_overrides=ros.overrides(**values))
    ros.add(node)
    return node, Parameters(node)


def test_cameras_are_read_by_name(ros: RosGraph) -> None:
    _, parameters = parameters_of(
        ros,
        engine="tiny",
        camera_names=["front", "left"],
        cameras__front__image_topic="/front/image",
        cameras__left__image_topic="/left/image/compressed",
        cameras__left__transport="compressed",
    )

    assert parameters.load().cameras == (
        CameraParameters("front", "/front/image", "raw"),
        CameraParameters("left", "/left/image/compressed", "compressed"),
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"engine": ""}, "engine is empty: set it"),
        ({"cameras__front__image_topic": ""}, "cameras.front.image_topic is empty: set it"),
        ({"cameras__front__transport": "theora"}, "cameras.front.transport is 'theora'; expected one of raw, compr"),
        ({"cameras__front__image_topic": "front image"}, "cameras.front.image_topic does not fit: Invalid topic name"),
        ({"runtime": "caffe"}, "runtime is 'caffe'; expected one of auto, openvino"),
        ({"slots": 4}, "slots out of range. Min: 1, Max: 3"),
        ({"threads": -1}, "threads out of range"),
        ({"overlay_alpha": 1}, "'overlay_alpha' to '1' of type 'INTEGER', expecting type 'DOUBLE'"),
        ({"camera_names": ["left-front"]}, "'left-front'; a name is letters, digits and underscores"),
        ({"camera_names": ["front", "front"]}, "camera_names holds a name twice"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(ros: RosGraph, values: dict[str, Any], reason: str) -> None:
    good = {"engine": "tiny", "camera_names": ["front"], "cameras__front__image_topic": "image"}
    _, parameters = parameters_of(ros, **(good | values))

    with pytest.raises(ParameterError, match=re.escape(reason)):
        parameters.load()


def test_every_problem_is_told_at_once(ros: RosGraph) -> None:
    _, parameters = parameters_of(ros, slots=9, runtime="caffe")

    with pytest.raises(ParameterError, match=r"runtime is .*slots.*image_topic is empty.*engine is empty"):
        parameters.load()


def test_setting_the_parameter_mends_a_value_that_did_not_fit(ros: RosGraph) -> None:
    node, parameters = parameters_of(ros, engine="tiny", cameras__camera__image_topic="image", slots=9)
    with pytest.raises(ParameterError, match="slots"):
        parameters.load()

    node.set_parameters([Parameter("slots", value=3)])

    assert parameters.load().slots == 3


def test_a_set_of_changes_is_refused_as_a_whole(ros: RosGraph) -> None:
    node, parameters = parameters_of(ros)

    result = node.set_parameters_atomically(ros.overrides(overlay_alpha=0.9, runtime="caffe"))

    assert not result.successful
    assert "runtime is 'caffe'" in result.reason
    assert parameters.live.overlay_alpha == 0.5


def test_a_configured_node_takes_live_parameters(ros: RosGraph) -> None:
    node, parameters = parameters_of(ros)
    parameters.locked = True

    assert node.set_parameters_atomically(ros.overrides(overlay_alpha=0.9, confidence_threshold=0.2)).successful
    assert (parameters.live.overlay_alpha, parameters.live.confidence_threshold) == (0.9, 0.2)


def test_a_configured_node_refuses_fixed_parameters_and_says_how_to(ros: RosGraph) -> None:
    node, parameters = parameters_of(ros)
    parameters.locked = True

    result = node.set_parameters_atomically(ros.overrides(slots=3))

    assert not result.successful
    assert "ros2 lifecycle set /node cleanup" in result.reason


def test_every_parameter_says_what_it_is(ros: RosGraph) -> None:
    for declaration in (*NODE_DECLARATIONS, *CAMERA_DECLARATIONS):
        assert declaration.descriptor().description.endswith("."), declaration.name


def test_the_shipped_file_names_every_parameter_of_the_node() -> None:
    shipped = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["/**"]["ros__parameters"]

    assert set(shipped) - {"cameras"} == {declaration.name for declaration in NODE_DECLARATIONS}
    for camera in shipped["camera_names"]:
        assert set(shipped["cameras"][camera]) == {declaration.name for declaration in CAMERA_DECLARATIONS}


def test_the_shipped_file_gives_the_defaults_and_loads(ros: RosGraph) -> None:
    node = Node("node", context=ros.context, cli_args=["--ros-args", "--params-file", str(CONFIG)])
    ros.add(node)

    loaded = Parameters(node).load()

    defaults = {declaration.name: declaration.default for declaration in NODE_DECLARATIONS}
    assert (loaded.slots, loaded.threads, loaded.runtime) == tuple(
        defaults[name] for name in ("slots", "threads", "runtime")
    )
    assert loaded.cameras == (CameraParameters("front", "image", "raw"),)
