from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from eseg_ros.node.declarations import CAMERA_DECLARATIONS, CHANGES, NODE_DECLARATIONS
from eseg_ros.node.parameters import CameraParameters, LiveCameraParameters, ParameterError, Parameters
from eseg_ros.node.parameters_table import table
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions

if TYPE_CHECKING:
    from conftest import RosGraph

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "eseg.yaml"


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
        CameraParameters("front", "/front/image"),
        CameraParameters("left", "/left/image/compressed", transport="compressed"),
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
        ({"cameras__front__scale": 2.0}, "cameras.front.scale out of range"),
        ({"cameras__front__reliability": "maybe"}, "'maybe'; expected one of best_effort, reliable"),
        ({"cameras__front__camera_info_topic": "a b"}, "cameras.front.camera_info_topic does not fit: Invalid topic"),
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


def test_on_a_distribution_without_post_set_callbacks_changes_are_taken_too(
    ros: RosGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Node, "add_post_set_parameters_callback")
    node, parameters = parameters_of(ros)

    refused = node.set_parameters_atomically(ros.overrides(overlay_alpha=0.9, runtime="caffe"))
    assert (refused.successful, parameters.live.overlay_alpha) == (False, 0.5)
    assert node.set_parameters_atomically(ros.overrides(overlay_alpha=0.9, max_age_ms=5.0)).successful

    assert (parameters.live.overlay_alpha, parameters.live.max_age_ms) == (0.9, 5.0)


def test_a_cameras_live_parameters_are_its_own(ros: RosGraph) -> None:
    node, parameters = parameters_of(
        ros,
        engine="tiny",
        camera_names=["front", "left"],
        cameras__front__image_topic="front",
        cameras__left__image_topic="left",
        cameras__left__scale=0.5,
    )
    parameters.load()
    parameters.locked = True

    assert node.set_parameters_atomically(ros.overrides(cameras__front__max_rate=5.0)).successful

    assert parameters.live_camera("front") == LiveCameraParameters(max_rate=5.0, scale=1.0)
    assert parameters.live_camera("left") == LiveCameraParameters(max_rate=0.0, scale=0.5)


def test_what_is_read_once_at_the_start_cannot_be_set_in_vain(ros: RosGraph) -> None:
    node, _ = parameters_of(ros)

    assert not node.set_parameters_atomically(ros.overrides(autostart=False)).successful


def test_known_parameters_are_not_reported(ros: RosGraph) -> None:
    name = "qos_overrides./image.subscription.reliability"
    _, parameters = parameters_of(
        ros, engine="tiny", cameras__camera__image_topic="image", use_sim_time=True, **{name: "reliable"}
    )
    parameters.load()

    assert parameters.unknown() == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("overlay_alhpa", "overlay_alhpa is not a parameter of this node and is not used; did you mean overlay_alpha?"),
        ("cameras__camera__image_topics", "did you mean cameras.camera.image_topic?"),
        ("cameras__left__image_topic", "cameras.left.image_topic is not used: camera_names does not hold 'left'"),
        ("plaid", "plaid is not a parameter of this node and is not used; docs/parameters.md lists those there are"),
    ],
)
def test_an_unknown_parameter_is_reported_with_what_was_probably_meant(ros: RosGraph, name: str, sentence: str) -> None:
    _, parameters = parameters_of(ros, engine="tiny", cameras__camera__image_topic="image", **{name: "x"})
    parameters.load()

    (complaint,) = parameters.unknown()

    assert complaint.endswith(sentence)


def test_every_parameter_says_what_it_is_and_when_it_may_change(ros: RosGraph) -> None:
    for declaration in (*NODE_DECLARATIONS, *CAMERA_DECLARATIONS):
        descriptor = declaration.descriptor()
        assert descriptor.description.endswith("."), declaration.name
        assert CHANGES[declaration.change] in descriptor.additional_constraints


def test_every_number_has_a_range(ros: RosGraph) -> None:
    for declaration in (*NODE_DECLARATIONS, *CAMERA_DECLARATIONS):
        if isinstance(declaration.default, (int, float)) and not isinstance(declaration.default, bool):
            descriptor = declaration.descriptor()
            assert [*descriptor.integer_range, *descriptor.floating_point_range], declaration.name


def test_the_gpus_options_are_read(ros: RosGraph) -> None:
    _, parameters = parameters_of(
        ros,
        engine="tiny",
        cameras__camera__image_topic="image",
        cuda__wait="spin",
        cuda__mapped="off",
        cuda__graphs=False,
        cuda__device=1,
        auto_build=True,
    )

    loaded = parameters.load()

    assert (loaded.cuda, loaded.auto_build) == (CudaOptions(device=1, wait="spin", graphs=False, mapped="off"), True)


def test_the_table_in_docs_is_that_of_the_declarations() -> None:
    committed = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")

    assert committed == table(), "run: python -m eseg_ros.node.parameters_table > docs/parameters.md"


def flat(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested YAML as full parameter names."""
    names: dict[str, Any] = {}
    for key, value in parameters.items():
        names |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return names


def test_the_shipped_file_names_every_parameter_of_the_node() -> None:
    shipped = flat(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["/**"]["ros__parameters"])

    expected = {declaration.name for declaration in NODE_DECLARATIONS}
    assert set(shipped) == expected | {f"cameras.front.{declaration.name}" for declaration in CAMERA_DECLARATIONS}


@pytest.mark.parametrize("name", ["eseg", "multi_camera", "jetson"])
def test_every_shipped_file_loads_and_holds_nothing_unknown(ros: RosGraph, name: str) -> None:
    path = ROOT / "config" / f"{name}.yaml"
    node = Node("node", context=ros.context, cli_args=["--ros-args", "--params-file", str(path)])
    ros.add(node)
    parameters = Parameters(node)

    parameters.load()

    assert parameters.unknown() == []


def test_the_shipped_file_gives_the_defaults_and_loads(ros: RosGraph) -> None:
    node = Node("node", context=ros.context, cli_args=["--ros-args", "--params-file", str(CONFIG)])
    ros.add(node)

    loaded = Parameters(node).load()

    defaults = {declaration.name: declaration.default for declaration in NODE_DECLARATIONS}
    assert (loaded.slots, loaded.threads, loaded.runtime) == tuple(
        defaults[name] for name in ("slots", "threads", "runtime")
    )
    assert loaded.cameras == (CameraParameters("front", "image"),)
    assert (loaded.classes_map, loaded.cuda, loaded.auto_build) == ((), CudaOptions(), False)
