"""Takes away from rclpy what Humble's does not have, then takes the node through its life. Run as a process.

The names are those that the `humble` branch of rclpy lacks and the `jazzy` one has; rclpy's own modules have imported
what they need before. Prints the states that the node went through.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import rclpy
import rclpy.event_handler
import rclpy.lifecycle
import rclpy.node
from rclpy.client import Client
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription

MODULES = (
    *("clock_type", "destroyable", "event_handler", "experimental.events_executor", "logging_service"),
    *("parameter_client", "parameter_event_handler", "service_introspection", "type_description_service", "type_hash"),
)
METHODS: dict[type, tuple[str, ...]] = {
    Node: (
        *("add_pre_set_parameters_callback", "add_post_set_parameters_callback", "wait_for_node"),
        *("remove_pre_set_parameters_callback", "remove_post_set_parameters_callback"),
        *("count_clients", "count_services", "get_fully_qualified_node_names", "list_parameters"),
    ),
    Client: ("configure_introspection", "logger_name", "service_name"),
    Service: ("configure_introspection", "logger_name", "service_name"),
    Publisher: ("logger_name",),
    Subscription: ("logger_name", "get_publisher_count"),
}
OPTIONS: dict[Callable[..., Any], tuple[str, ...]] = {
    Node.__init__: ("enable_logger_service",),
    Node.create_timer: ("autostart",),
    rclpy.event_handler.SubscriptionEventCallbacks.__init__: ("matched", "incompatible_type"),
    rclpy.event_handler.PublisherEventCallbacks.__init__: ("matched", "incompatible_type"),
}
PICTURE = np.zeros((64, 96, 3), np.uint8)


def refuse(method: Callable[..., Any], options: tuple[str, ...]) -> Callable[..., Any]:
    """The method without these options."""
    missing = set(options) - set(inspect.signature(method).parameters)
    assert not missing, f"{method.__qualname__} never had {missing}"

    @wraps(method)
    def without(*arguments: Any, **given: Any) -> Any:
        unexpected = set(options) & given.keys()
        if unexpected:
            raise TypeError(f"{method.__qualname__}() got unexpected keyword arguments {unexpected}")
        return method(*arguments, **given)

    return without


def become_humble() -> None:
    """rclpy.qos_event holds in Humble what became rclpy.event_handler."""
    events = rclpy.event_handler
    for name in ("SubscriptionEventCallbacks", "PublisherEventCallbacks", "UnsupportedEventTypeError"):
        setattr(sys.modules.setdefault("rclpy.qos_event", type(sys)("rclpy.qos_event")), name, getattr(events, name))
    for method, options in OPTIONS.items():
        owner = next(
            kind for kind in (Node, *vars(events).values()) if method in getattr(kind, "__dict__", {}).values()
        )
        setattr(owner, method.__name__, refuse(method, options))
    for owner, names in METHODS.items():
        for name in names:
            delattr(owner, name)
    for name in MODULES:
        sys.modules[f"rclpy.{name}"] = None  # type: ignore[assignment]  # to import it is an ImportError now


def live(engine: str) -> None:
    """One image, one live parameter, every transition."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    from eseg_ros.node.messages import image_message
    from eseg_ros.node.segmentation_node import SegmentationNode

    rclpy.init(args=[])
    given = {"engine": engine, "camera_names": ["front"], "cameras.front.image_topic": "image", "autostart": False}
    node = SegmentationNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    peer = Node("peer")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(peer)
    masks: list[Image] = []
    camera = peer.create_publisher(Image, "image", 1)
    peer.create_subscription(Image, "segmentation/front/mask", masks.append, 1)
    for transition in ("configure", "activate"):
        getattr(node, f"trigger_{transition}")()
        print(node.state)
    while not masks:
        camera.publish(image_message(PICTURE, "bgr8", 1, "front"))
        executor.spin_once(timeout_sec=0.1)
    print("mask", masks[0].height, masks[0].width)
    print("set", node.set_parameters_atomically([Parameter("overlay_alpha", value=0.25)]).successful)
    print("refused", node.set_parameters_atomically([Parameter("slots", value=3)]).reason.split(":")[0])
    for transition in ("deactivate", "cleanup", "shutdown"):
        getattr(node, f"trigger_{transition}")()
        print(node.state)
    executor.shutdown()
    node.destroy_node()
    peer.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    become_humble()
    live(sys.argv[1])
