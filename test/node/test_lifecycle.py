"""Transitions, what may come in between, and how failures end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from eseg_ros.errors import DeviceError
from eseg_ros.node import segmentation_node
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Runtime

if TYPE_CHECKING:
    from conftest import Rig, RosGraph

WAIT_S = 10.0
PICTURE = np.zeros((64, 96, 3), np.uint8)


def test_without_autostart_the_node_waits_to_be_configured_and_activated_by_service(rig: Rig) -> None:
    node = rig.start(autostart=False)
    assert node.state == "unconfigured"
    client = rig.ros.peer.create_client(ChangeState, "/segmentation/change_state")
    rig.ros.until(client.service_is_ready)

    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_CONFIGURE, "inactive"),
    ):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        rig.ros.until(future.done)
        assert (future.result().success, node.state) == (True, state)


def test_deactivate_ends_the_flow_and_activate_takes_it_up_again(rig: Rig) -> None:
    node = rig.start()
    camera = rig.camera()

    node.trigger_deactivate()
    rig.ros.until(lambda: not camera.get_subscription_count())
    node.trigger_activate()
    rig.ros.until(camera.get_subscription_count)

    rig.exchange(camera, rig.ros.image(PICTURE), rig.ros.listen(Image, "/segmentation/front/mask"))


def test_cleanup_takes_the_cameras_topics_away(rig: Rig) -> None:
    node = rig.start()
    rig.ros.until(lambda: rig.ros.peer.count_publishers("/segmentation/front/mask"))

    node.trigger_deactivate()
    node.trigger_cleanup()

    rig.ros.until(lambda: not rig.ros.peer.count_publishers("/segmentation/front/mask"))


def missing(engine: Path) -> None:
    engine.unlink()


def cut(engine: Path) -> None:
    onnx = engine.with_suffix(".onnx")
    onnx.write_bytes(onnx.read_bytes()[:-10])


def without_onnx(engine: Path) -> None:
    engine.with_suffix(".onnx").unlink()


def broken_manifest(engine: Path) -> None:
    engine.write_text("{")


def other_input(engine: Path) -> None:
    manifest = json.loads(engine.read_text())
    manifest["input"]["width"] *= 2
    engine.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing, "cannot be read"),
        (cut, "the file is cut or belongs to another engine"),
        (without_onnx, "which cannot be read"),
        (broken_manifest, "not valid JSON"),
        (other_input, "192"),
    ],
)
def test_an_engine_that_cannot_be_used_fails_configure_with_the_reason_and_the_node_lives(
    rig: Rig, make_tiny_engine: Callable[..., Path], damage: Callable[[Path], None], reason: str
) -> None:
    engine = make_tiny_engine()
    good = {path: path.read_bytes() for path in engine.parent.glob("tiny.*")}
    damage(engine)
    node = rig.start(engine=str(engine))

    status = rig.until_engine_says(reason)
    assert (status.level, node.state) == (DiagnosticStatus.ERROR, "unconfigured")

    for path, content in good.items():
        path.write_bytes(content)
    node.autostart()
    assert node.state == "active"
    assert rig.until_engine_says("active").level == DiagnosticStatus.OK


def test_a_camera_without_a_topic_fails_configure_with_what_to_set(rig: Rig) -> None:
    node = rig.start(cameras__front__image_topic="")

    rig.until_engine_says("cameras.front.image_topic is empty: set it")
    node.set_parameters([Parameter("cameras.front.image_topic", value="image")])
    node.autostart()

    assert node.state == "active"


def test_an_unknown_engine_is_answered_with_those_there_are(rig: Rig) -> None:
    rig.start(engine="no_such_engine")

    assert "Engines here:" in rig.until_engine_says("no_such_engine.json").message


def test_fixed_parameters_are_refused_until_cleanup(rig: Rig) -> None:
    node = rig.start()
    change = [Parameter("slots", value=3)]
    assert not node.set_parameters_atomically(change).successful

    node.trigger_deactivate()
    node.trigger_cleanup()

    assert node.set_parameters_atomically(change).successful


class Wrapped:
    """A runtime that is what it wraps, but for what a test lets happen to it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


class LostDevice(Wrapped):
    """Loads, and then fails as a device that falls off the bus."""

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        raise DeviceError("the device is lost")


@pytest.fixture
def lost_device(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every engine loads and then fails; `undo()` mends it."""
    monkeypatch.setattr(segmentation_node, "create_runtime", lambda *options: LostDevice(create_runtime(*options)))
    return monkeypatch


def test_a_failing_engine_unconfigures_the_node_and_configure_mends_it(
    rig: Rig, lost_device: pytest.MonkeyPatch
) -> None:
    node = rig.start()
    camera = rig.camera()

    camera.publish(rig.ros.image(PICTURE))

    assert rig.until_engine_says("the device is lost").level == DiagnosticStatus.ERROR
    rig.ros.until(lambda: node.state == "unconfigured")
    lost_device.undo()
    node.autostart()
    rig.exchange(camera, rig.ros.image(PICTURE), rig.ros.listen(Image, "/segmentation/front/mask"))


def test_a_subscription_that_cannot_be_made_unconfigures_the_node_with_the_reason(rig: Rig) -> None:
    node = rig.start(lazy=True, **{"qos_overrides./image.subscription.reliability": "perhaps"})
    assert node.state == "active"

    rig.ros.listen(Image, "/segmentation/front/mask")

    assert "perhaps" in rig.until_engine_says("cannot subscribe").message
    rig.ros.until(lambda: node.state == "unconfigured")


WhileLoading = Callable[[Callable[[], object]], None]


@pytest.fixture
def while_loading(monkeypatch: pytest.MonkeyPatch) -> WhileLoading:
    """`while_loading(action)`: every engine does it first, in the worker's thread, while the node waits."""

    def install(action: Callable[[], object]) -> None:
        class Loading(Wrapped):
            def load(self, notify: Callable[[], None]) -> None:
                action()
                self._runtime.load(notify)

        monkeypatch.setattr(segmentation_node, "create_runtime", lambda *options: Loading(create_runtime(*options)))

    return install


@pytest.fixture
def endless(while_loading: WhileLoading) -> Iterator[threading.Event]:
    """Set once an engine has begun to load, which it does until the test is over."""
    begun, over = threading.Event(), threading.Event()

    def load() -> None:
        begun.set()
        over.wait()

    while_loading(load)
    yield begun
    over.set()


def test_configure_gives_up_while_an_engine_loads_when_the_process_is_told_to_end(
    rig: Rig, endless: threading.Event
) -> None:
    node = rig.start(stopped=endless.is_set)

    assert endless.is_set()
    assert node.state == "unconfigured"


class Client:
    """Another process's calls and subscriptions, as far as DDS can tell: made and awaited in the caller's thread."""

    def __init__(self, ros: RosGraph) -> None:
        self._node = ros.foreign_node()
        self._executor = SingleThreadedExecutor(context=self._node.context)
        self._executor.add_node(self._node)

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self._node.create_client(service_type, name)
        assert client.wait_for_service(WAIT_S)
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, WAIT_S)
        return future.result()

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "/segmentation/change_state", request).success)

    def hear(self, message_type: Any, topic: str) -> Any:
        """The next message."""
        messages: list[Any] = []
        self._node.create_subscription(message_type, topic, messages.append, 1)
        deadline = time.monotonic() + WAIT_S
        while not messages:
            assert time.monotonic() < deadline, "no message came"
            self._executor.spin_once(timeout_sec=0.1)
        return messages[0]


@pytest.mark.parametrize(
    "shutdown", [Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, Transition.TRANSITION_INACTIVE_SHUTDOWN]
)
def test_a_shutdown_while_the_engine_loads_ends_the_loading_and_then_the_node(
    rig: Rig, endless: threading.Event, shutdown: int
) -> None:
    node = rig.start(autostart=False)
    answers: list[bool] = []

    def shut_down() -> None:
        assert endless.wait(WAIT_S)
        answers.append(Client(rig.ros).change_state(shutdown))

    other = threading.Thread(target=shut_down)
    other.start()
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    rig.ros.until(lambda: answers)
    other.join()

    assert (answers, node.state) == ([True], "finalized")


def test_another_transition_is_refused_while_the_engine_loads(rig: Rig, while_loading: WhileLoading) -> None:
    client, answers = Client(rig.ros), []
    while_loading(lambda: answers.append(client.change_state(Transition.TRANSITION_CONFIGURE)))

    node = rig.start()

    assert (answers, node.state) == ([False], "active")


def test_state_and_parameters_are_told_while_the_engine_loads(rig: Rig, while_loading: WhileLoading) -> None:
    client, answers = Client(rig.ros), []

    def ask() -> None:
        answers.append(client.call(GetState, "/segmentation/get_state", GetState.Request()))
        request = SetParameters.Request(parameters=[Parameter("slots", value=1).to_parameter_msg()])
        answers.append(client.call(SetParameters, "/segmentation/set_parameters", request))

    while_loading(ask)

    rig.start()

    state, setting = answers
    assert state.current_state.label == "configuring"
    assert not setting.results[0].successful
    assert "slots is fixed while the node is configured" in setting.results[0].reason


def test_diagnostics_go_on_while_the_engine_loads(rig: Rig, while_loading: WhileLoading) -> None:
    client, reports = Client(rig.ros), []
    while_loading(lambda: reports.append(client.hear(DiagnosticArray, "/diagnostics")))

    rig.start()

    assert reports[0].status[0].message == "loading"


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_shutdown_frees_everything_from_any_state(rig: Rig, state: str) -> None:
    node = rig.start(autostart=False)
    if state != "unconfigured":
        node.trigger_configure()
    if state == "active":
        node.trigger_activate()

    assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS

    assert node.state == "finalized"
    rig.ros.until(lambda: not rig.ros.peer.count_publishers("/segmentation/front/mask"))
    assert rig.until_engine_says("finalized").level == DiagnosticStatus.OK
    rig.ros.until(lambda: "eseg-worker" not in [thread.name for thread in threading.enumerate()])


def test_reactivation_needs_no_new_engine(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    node = rig.start()
    monkeypatch.setattr(segmentation_node, "create_runtime", None)  # whoever makes another one fails

    for _ in range(3):
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    rig.exchange(rig.camera(), rig.ros.image(PICTURE), rig.ros.listen(Image, "/segmentation/front/mask"))
