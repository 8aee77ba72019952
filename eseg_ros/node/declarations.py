"""Every parameter of the node: the one table from which they are declared, documented and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from eseg_ros.runtime import RUNTIMES
from eseg_ros.runtime.cuda.cuda_runtime import MAPPED, WAITS

TRANSPORTS = ("raw", "compressed")
RELIABILITIES = ("best_effort", "reliable")
CHANGES = {
    "live": "may be changed at any time",
    "unconfigured": "fixed while the node is configured",
    "start": "read once, at the start",
}
"""When a parameter may be changed."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One parameter as users see it.

    Attributes:
        name: full name, or for a camera's parameter the part behind `cameras.NAME.`.
        default: also gives the type.
        description: a sentence.
        unit: of a number, e.g. "ms"; empty for a pure number and for texts.
        minimum: smallest number allowed, if `maximum` is given.
        maximum: largest number allowed.
        choices: the only texts allowed; empty for any.
        change: a key of CHANGES.
    """

    name: str
    default: Any
    description: str
    unit: str = ""
    minimum: float = 0
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    change: str = "unconfigured"

    def descriptor(self) -> ParameterDescriptor:
        """The description as rclpy keeps it; rclpy itself holds type, range and what is read only."""
        constraints = [f"one of: {', '.join(self.choices)}"] if self.choices else []
        descriptor = ParameterDescriptor(
            description=f"{self.description} Unit: {self.unit}." if self.unit else self.description,
            additional_constraints="; ".join([*constraints, CHANGES[self.change]]),
            read_only=self.change == "start",
        )
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
    Declaration(
        "slots",
        2,
        "Frames under way at once: 1 takes the least memory, 2 or 3 overlap.",
        "frames",
        minimum=1,
        maximum=3,
    ),
    Declaration("threads", 0, "Threads of an inference library on the CPU; 0 lets it choose.", "threads", maximum=64),
    Declaration(
        "auto_build",
        False,
        "With runtime tensorrt or rtx: build the plan at configure if this machine has none, which takes minutes.",
    ),
    Declaration("cuda.device", 0, "With runtime tensorrt or rtx: which GPU.", maximum=15),
    Declaration(
        "cuda.wait",
        "block",
        "On a GPU: block sleeps until a frame is ready, spin asks all the time, which costs a core but no waking up.",
        choices=WAITS,
    ),
    Declaration("cuda.graphs", True, "On a GPU: launch the compute of a frame as one CUDA graph."),
    Declaration(
        "cuda.mapped",
        "auto",
        "On a GPU: let kernels work on the host's memory in place of copies, in quotes; auto tries it on a Jetson.",
        choices=MAPPED,
    ),
    Declaration(
        "classes.map",
        [""],
        "Classes merged or dropped in every output, each old:new; old: and old:ignore drop a class, which becomes 255.",
    ),
    Declaration("camera_names", ["camera"], "Cameras; each one's parameters stand under cameras.NAME."),
    Declaration(
        "lazy",
        True,
        "Unsubscribe from the images of a camera while nobody subscribes to any of its outputs.",
        change="live",
    ),
    Declaration(
        "max_age_ms",
        0.0,
        "Frames are dropped whose stamp is older than this by the node's clock, or ahead of it by more than this (at "
        "least 1 s); 0 takes frames of any age.",
        "ms",
        maximum=60_000.0,
        change="live",
    ),
    Declaration(
        "max_megapixels",
        64.0,
        "Larger images are rejected before anything is allocated for them, compressed ones by their header.",
        "megapixels",
        minimum=0.01,
        maximum=1000.0,
        change="live",
    ),
    Declaration(
        "overlay_alpha",
        0.5,
        "Weight of the colors in the overlay: 0 is the camera image, 1 the colors alone.",
        maximum=1.0,
        change="live",
    ),
    Declaration(
        "confidence_threshold",
        0.0,
        "Pixels whose winning class is less probable than this become 255 in the mask; 0 keeps every pixel.",
        maximum=1.0,
        change="live",
    ),
    Declaration(
        "jpeg_quality", 90, "Quality of the overlay's compressed form.", "%", minimum=1, maximum=100, change="live"
    ),
    Declaration(
        "diagnostics_period_s",
        1.0,
        "Time from one message on /diagnostics to the next.",
        "s",
        minimum=0.1,
        maximum=60.0,
        change="live",
    ),
    Declaration("autostart", True, "Configure and activate without being told to.", change="start"),
)

CAMERA_DECLARATIONS = (
    Declaration("image_topic", "", "Topic of the camera's images, exactly as published."),
    Declaration(
        "camera_info_topic", "", "Topic of the camera's calibration; empty for camera_info beside the images' topic."
    ),
    Declaration(
        "transport", "raw", "raw for sensor_msgs/Image, compressed for sensor_msgs/CompressedImage.", choices=TRANSPORTS
    ),
    Declaration(
        "reliability",
        "best_effort",
        "Reliability of the image subscription: best_effort matches every publisher, reliable gets lost images again.",
        choices=RELIABILITIES,
    ),
    Declaration("depth", 5, "Depth of the image subscription's queue.", "messages", minimum=1, maximum=100),
    Declaration(
        "max_rate",
        0.0,
        "Images beyond this rate are left out, evenly; 0 takes all.",
        "Hz",
        maximum=1000.0,
        change="live",
    ),
    Declaration(
        "scale",
        1.0,
        "Width and height of the outputs as a share of the image's.",
        minimum=0.05,
        maximum=1.0,
        change="live",
    ),
)
