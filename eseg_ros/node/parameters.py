"""The node's parameters: declared from one table, read into frozen dataclasses, changes taken or refused as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from eseg_ros.errors import EsegError
from eseg_ros.runtime.select import RUNTIMES

TRANSPORTS = ("raw", "compressed")


class ParameterError(EsegError):
    """Parameters are missing or do not fit; the message names each and what to set."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One parameter as users see it.

    Attributes:
        name: full name, or for a camera's parameter the part behind `cameras.NAME.`.
        default: also gives the type.
        description: a sentence, with the unit.
        minimum: smallest number allowed, if `maximum` is given.
        maximum: largest number allowed.
        choices: the only texts allowed; empty for any.
        live: may be changed at any time; the others only while the node is unconfigured.
    """

    name: str
    default: Any
    description: str
    minimum: float = 0
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """The description as rclpy keeps it; rclpy itself holds type and range."""
        descriptor = ParameterDescriptor(description=self.description)
        if self.choices:
            descriptor.additional_constraints = "one of: " + ", ".join(self.choices)
        if not self.live:
            descriptor.additional_constraints += "; " * bool(self.choices) + "fixed while the node is configured"
        if isinstance(self.default, int) and self.maximum is not None:
            bounds = IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=1)
            descriptor.integer_range = [bounds]
        elif isinstance(self.default, float) and self.maximum is not None:
            bounds = FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
            descriptor.floating_point_range = [bounds]
        return descriptor


NODE_DECLARATIONS = (
    Declaration("engine", "", "Engine to run: a shipped engine's name, or the path of its NAME.json or NAME.onnx."),
    Declaration("runtime", "auto", "Inference library; auto takes the fastest that is installed.", choices=RUNTIMES),
    Declaration("slots", 2, "Frames under way at once: 1 is the least memory, 2 or 3 overlap.", minimum=1, maximum=3),
    Declaration("threads", 0, "CPU threads of the inference library; 0 lets it choose.", maximum=64),
    Declaration("camera_names", ["camera"], "Cameras; each one's parameters stand under cameras.NAME."),
    Declaration(
        "max_age_ms",
        0.0,
        "Frames older than this by stamp and node clock are dropped, milliseconds; 0 takes frames of any age.",
        maximum=60_000.0,
        live=True,
    ),
    Declaration("overlay_alpha", 0.5, "Weight of the colors in the overlay, 0 to 1.", maximum=1.0, live=True),
    Declaration(
        "confidence_threshold",
        0.0,
        "Pixels whose winning class is less probable than this become 255 in the mask; 0 keeps every pixel.",
        maximum=1.0,
        live=True,
    ),
    Declaration(
        "diagnostics_period_s", 1.0, "Time from one message on /diagnostics to the next, s.", minimum=0.1, maximum=60.0
    ),
    Declaration("autostart", True, "Configure and activate by itself at the start."),
)

CAMERA_DECLARATIONS = (
    Declaration("image_topic", "", "Topic of the camera's images, exactly as published."),
    Declaration(
        "transport", "raw", "raw for sensor_msgs/Image, compressed for sensor_msgs/CompressedImage.", choices=TRANSPORTS
    ),
)


@dataclass(frozen=True, slots=True)
class CameraParameters:
    """Parameters of one camera."""

    name: str
    image_topic: str
    transport: str


@dataclass(frozen=True, slots=True)
class NodeParameters:
    """What is fixed from one configure to the next."""

    engine: str
    runtime: str
    slots: int
    threads: int
    cameras: tuple[CameraParameters, ...]


@dataclass(frozen=True, slots=True)
class LiveParameters:
    """What may change between two frames."""

    max_age_ms: float
    overlay_alpha: float
    confidence_threshold: float


class Parameters:
    """A node's declared parameters.

    A value from the command line or a YAML file that does not fit does not stop the node: it is remembered, `load` says
    what is wrong, and setting that parameter mends it.

    Attributes:
        locked: while true, only live parameters may be set.
    """

    def __init__(self, node: Node) -> None:
        self.locked = False
        self._node = node
        self._declarations: dict[str, Declaration] = {}
        self._misfits: dict[str, str] = {}
        for declaration in NODE_DECLARATIONS:
            self._declare(declaration.name, declaration)
        node.add_on_set_parameters_callback(self._check)

    def load(self) -> NodeParameters:
        """The parameters as they stand; declares those of every camera named.

        Raises:
            ParameterError: names every parameter that does not fit.
        """
        names = self._value("camera_names")
        problems = _camera_name_problems(names)
        if not problems:
            for declaration in CAMERA_DECLARATIONS:
                for name in names:
                    self._declare(f"cameras.{name}.{declaration.name}", declaration)
            topics = {name: self._value(f"cameras.{name}.image_topic") for name in names}
            problems = [problem for name in names if (problem := _topic_problem(name, topics[name]))]
        if not self._value("engine"):
            problems.append("engine is empty: set it to the name or path of an engine, see `ls engines`")
        problems = [*self._misfits.values(), *problems]
        if problems:
            raise ParameterError("; ".join(problems))
        return NodeParameters(
            engine=self._value("engine"),
            runtime=self._value("runtime"),
            slots=self._value("slots"),
            threads=self._value("threads"),
            cameras=tuple(
                CameraParameters(
                    name=name,
                    image_topic=self._value(f"cameras.{name}.image_topic"),
                    transport=self._value(f"cameras.{name}.transport"),
                )
                for name in names
            ),
        )

    @property
    def live(self) -> LiveParameters:
        """The live parameters as they stand; may be read in any thread."""
        return LiveParameters(
            max_age_ms=self._value("max_age_ms"),
            overlay_alpha=self._value("overlay_alpha"),
            confidence_threshold=self._value("confidence_threshold"),
        )

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self._value("autostart"))

    @property
    def diagnostics_period_s(self) -> float:
        """Seconds from one diagnostics message to the next."""
        return float(self._value("diagnostics_period_s"))

    def _value(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def _declare(self, name: str, declaration: Declaration) -> None:
        """Declare one parameter unless it is; a given value that does not fit is remembered and left out."""
        if self._node.has_parameter(name):
            return
        self._declarations[name] = declaration
        try:
            value = self._node.declare_parameter(name, declaration.default, declaration.descriptor()).value
            misfit = _choice_problem(name, value, declaration)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            self._node.declare_parameter(name, declaration.default, declaration.descriptor(), ignore_override=True)
            misfit = f"{name} does not fit: {error}. {declaration.description}"
        if misfit:
            self._misfits[name] = misfit

    def _check(self, changes: Sequence[Parameter]) -> SetParametersResult:
        """Take a set of changes as a whole, or refuse it as a whole with every reason."""
        known = [(change, self._declarations[change.name]) for change in changes if change.name in self._declarations]
        problems = [
            f"{change.name} is fixed while the node is configured: clean it up first, "
            f"`ros2 lifecycle set {self._node.get_fully_qualified_name()} cleanup`"
            for change, declaration in known
            if self.locked and not declaration.live
        ]
        problems += filter(None, (_choice_problem(change.name, change.value, item) for change, item in known))
        if problems:
            return SetParametersResult(successful=False, reason="; ".join(problems))
        for change, _ in known:
            self._misfits.pop(change.name, None)
        return SetParametersResult(successful=True)


def _choice_problem(name: str, value: object, declaration: Declaration) -> str | None:
    if not declaration.choices or value in declaration.choices:
        return None
    return f"{name} is {value!r}; expected one of {', '.join(declaration.choices)}"


def _topic_problem(camera: str, topic: str) -> str | None:
    name = f"cameras.{camera}.image_topic"
    if not topic:
        return f"{name} is empty: set it to the topic of camera {camera!r}, e.g. /{camera}/image_raw"
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        return f"{name} does not fit: {error}"
    return None


def _camera_name_problems(names: Sequence[str]) -> list[str]:
    if not names:
        return ["camera_names is empty: name at least one camera, e.g. [front]"]
    problems = [
        f"camera_names holds {name!r}; a name is letters, digits and underscores and begins with a letter"
        for name in names
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    ]
    if len(set(names)) < len(names):
        problems.append(f"camera_names holds a name twice: {', '.join(names)}")
    return problems
