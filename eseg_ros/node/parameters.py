"""The node's parameters: declared, read into frozen dataclasses, changes taken or refused as a whole."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from eseg_ros.errors import EsegError
from eseg_ros.node.declarations import CAMERA_DECLARATIONS, NODE_DECLARATIONS, Declaration
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions

_FOREIGN_PREFIXES = ("qos_overrides.", "diagnostic_updater.")  # declared by others, some of them later


class ParameterError(EsegError):
    """Parameters are missing or do not fit; the message names each and what to set."""


@dataclass(frozen=True, slots=True)
class CameraParameters:
    """What is fixed of one camera; `cameras.NAME.` in declarations.CAMERA_DECLARATIONS."""

    name: str
    image_topic: str
    camera_info_topic: str = ""
    transport: str = "raw"
    reliability: str = "best_effort"
    depth: int = 5


@dataclass(frozen=True, slots=True)
class NodeParameters:
    """What is fixed from one configure to the next."""

    engine: str
    runtime: str
    slots: int
    threads: int
    cuda: CudaOptions
    auto_build: bool
    classes_map: tuple[str, ...]
    cameras: tuple[CameraParameters, ...]


@dataclass(frozen=True, slots=True)
class LiveParameters:
    """What may change between two frames, all at once."""

    lazy: bool = True
    max_age_ms: float = 0.0
    max_megapixels: float = 64.0
    overlay_alpha: float = 0.5
    confidence_threshold: float = 0.0
    jpeg_quality: int = 90
    diagnostics_period_s: float = 1.0


@dataclass(frozen=True, slots=True)
class LiveCameraParameters(LiveParameters):
    """The same, with what is one camera's own."""

    max_rate: float = 0.0
    scale: float = 1.0


class Parameters:
    """A node's declared parameters.

    A value from the command line or a YAML file that does not fit does not stop the node: it is remembered, `load` says
    what is wrong, and setting that parameter mends it.

    Values are kept in a mapping that a set of changes replaces as a whole, so that another thread sees all of the
    changes or none.

    Attributes:
        locked: while true, only live parameters may be set.
    """

    def __init__(self, node: Node) -> None:
        self.locked = False
        self._node = node
        self._declarations: dict[str, Declaration] = {}
        self._misfits: dict[str, str] = {}
        self._values: Mapping[str, Any] = {}
        for declaration in NODE_DECLARATIONS:
            self._declare(declaration.name, declaration)
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_on_set_parameters_callback(self._check)
            node.add_post_set_parameters_callback(self._take)
        else:  # Humble
            node.add_on_set_parameters_callback(self._check_and_take)

    def load(self) -> NodeParameters:
        """The parameters as they stand; declares those of every camera named.

        Raises:
            ParameterError: names every parameter that does not fit.
        """
        names = self._values["camera_names"]
        problems = _camera_name_problems(names)
        if not problems:
            for declaration in CAMERA_DECLARATIONS:
                for name in names:
                    self._declare(f"cameras.{name}.{declaration.name}", declaration)
            problems = [problem for name in names for problem in self._topic_problems(name)]
        if not self._values["engine"]:
            problems.append("engine is empty: set it to the name or path of an engine, see `ls engines`")
        problems = [*self._misfits.values(), *problems]
        if problems:
            raise ParameterError("; ".join(problems))
        values = self._values
        return NodeParameters(
            engine=values["engine"],
            runtime=values["runtime"],
            slots=values["slots"],
            threads=values["threads"],
            cuda=CudaOptions(**self._read(CudaOptions, "cuda.")),
            auto_build=values["auto_build"],
            classes_map=tuple(filter(None, values["classes.map"])),
            cameras=tuple(CameraParameters(name, **self._read(CameraParameters, f"cameras.{name}.")) for name in names),
        )

    @property
    def live(self) -> LiveParameters:
        """The live parameters as they stand; may be read in any thread."""
        return LiveParameters(**self._read(LiveParameters))

    def live_camera(self, name: str) -> LiveCameraParameters:
        """The live parameters for a camera that `load` has declared; may be read in any thread."""
        return LiveCameraParameters(**self._read(LiveCameraParameters, f"cameras.{name}."))

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self._values["autostart"])

    def unknown(self) -> list[str]:
        """A sentence for each given parameter that nothing reads, with what was probably meant. Ask after `load`."""
        return [
            self._unknown(name)
            for name in given_parameters(self._node)
            if not self._node.has_parameter(name) and not name.startswith(_FOREIGN_PREFIXES)
        ]

    def _read(self, kind: type, prefix: str = "") -> dict[str, Any]:
        """The values of those fields of a dataclass that are parameters, under `prefix` or of the whole node."""
        values = self._values  # one mapping, whatever is set meanwhile
        names = {field.name: prefix + field.name for field in fields(kind)}
        found = {field: name if name in values else field for field, name in names.items()}
        return {field: values[name] for field, name in found.items() if name in values}

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
            value = declaration.default
            misfit = f"{name} does not fit: {error}. {declaration.description}"
        self._values = {**self._values, name: value}
        if misfit:
            self._misfits[name] = misfit

    def _check(self, changes: Sequence[Parameter]) -> SetParametersResult:
        """Allow a set of changes as a whole, or refuse it as a whole with every reason."""
        known = [(change, self._declarations[change.name]) for change in changes if change.name in self._declarations]
        problems = [
            f"{change.name} is fixed while the node is configured: clean it up first, "
            f"`ros2 lifecycle set {self._node.get_fully_qualified_name()} cleanup`"
            for change, declaration in known
            if self.locked and declaration.change != "live"
        ]
        problems += filter(None, (_choice_problem(change.name, change.value, item) for change, item in known))
        return SetParametersResult(successful=not problems, reason="; ".join(problems))

    def _take(self, changes: Sequence[Parameter]) -> None:
        """Make a set of changes that was allowed the values from now on."""
        taken = {change.name: change.value for change in changes if change.name in self._declarations}
        for name in taken:
            self._misfits.pop(name, None)
        self._values = {**self._values, **taken}

    def _check_and_take(self, changes: Sequence[Parameter]) -> SetParametersResult:
        result = self._check(changes)
        if result.successful:
            self._take(changes)
        return result

    def _topic_problems(self, camera: str) -> list[str]:
        prefix = f"cameras.{camera}."
        if not self._values[prefix + "image_topic"]:
            return [f"{prefix}image_topic is empty: set it to the topic of camera {camera!r}, e.g. /{camera}/image_raw"]
        names = [prefix + "image_topic", prefix + "camera_info_topic"]
        return [problem for name in names if (problem := _topic_problem(name, self._values[name]))]

    def _unknown(self, name: str) -> str:
        known = {declaration.name for declaration in NODE_DECLARATIONS}
        if parts := re.fullmatch(r"cameras\.([^.]+)\.(.+)", name):
            camera = parts[1]
            if camera not in self._values["camera_names"]:
                return f"{name} is not used: camera_names does not hold {camera!r}"
            known = {f"cameras.{camera}.{declaration.name}" for declaration in CAMERA_DECLARATIONS}
        nearest = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {nearest[0]}?" if nearest else "docs/parameters.md lists those there are"
        return f"{name} is not a parameter of this node and is not used; {meant}"


def given_parameters(node: Node) -> Mapping[str, Parameter]:
    """What the command line, YAML files and the constructor gave, declared or not."""
    given: Mapping[str, Parameter] = node._parameter_overrides  # rclpy shows them nowhere else
    return given


def _choice_problem(name: str, value: object, declaration: Declaration) -> str | None:
    if not declaration.choices or value in declaration.choices:
        return None
    return f"{name} is {value!r}; expected one of {', '.join(declaration.choices)}"


def _topic_problem(name: str, topic: str) -> str | None:
    try:
        if topic:
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
