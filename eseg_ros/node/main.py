"""The executable `segmentation_node`: process settings, signals, spinning."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

SPIN_PERIOD_S = 0.2
GRACE_S = 3.0
"""From a signal to the watchdog: a node that is well ends within a second."""
_MIB = 1 << 20
_MALLOC_SETTINGS = {  # glibc's malloc.h
    -3: 32 * _MIB,  # M_MMAP_THRESHOLD: images come from the heap
    -1: 512 * _MIB,  # M_TRIM_THRESHOLD: which keeps its pages
    -2: 64 * _MIB,  # M_TOP_PAD: and grows in large steps
}


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of images instead of handing it back and faulting its pages in anew each frame.

    Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for setting, value in _MALLOC_SETTINGS.items():
            mallopt(setting, value)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the node until SIGINT, SIGTERM or a shut-down context; ends the process, with status 0."""
    keep_freed_memory()
    # Libraries that are being imported may swallow the KeyboardInterrupt that is Python's answer to SIGINT, and the
    # node would never learn of it. Until it has handlers of its own, the signal ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from eseg_ros.node.logs import log_to_ros
    from eseg_ros.node.segmentation_node import SegmentationNode
    from eseg_ros.node.signals import StopSignals

    with StopSignals(GRACE_S) as stopped:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = SegmentationNode(stopped=stopped)
        log_to_ros(node.get_logger())
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.autostart()
            while rclpy.ok() and not stopped():
                executor.spin_once(timeout_sec=SPIN_PERIOD_S)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
    # All that is the node's is closed. What is left is the interpreter's end and that of the libraries, where an engine
    # that is still loading must not meet their end, and no watchdog watches any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
