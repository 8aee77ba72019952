"""What the processes of a benchmark have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from eseg_ros.node.main import SPIN_PERIOD_S, keep_freed_memory
from eseg_ros.node.signals import StopSignals


@contextmanager
def ros_process() -> Iterator[tuple[Context, StopSignals]]:
    """ROS set up as the segmentation node sets it up."""
    keep_freed_memory()
    with StopSignals() as stopped:
        context = Context()
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            yield context, stopped
        finally:
            rclpy.shutdown(context=context)


def spin(node: Node, stopped: Callable[[], bool]) -> None:
    """Spin as the segmentation node does until a signal comes."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    while not stopped():
        executor.spin_once(timeout_sec=SPIN_PERIOD_S)
    executor.shutdown()
    node.destroy_node()
