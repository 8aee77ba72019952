"""The node as it is usually written, to be compared with: nothing of it is used elsewhere.

rclpy's and DDS's default settings, images copied as cv_bridge copies them, and all of the work in the callback: the
image normalized in floating point, the scores of every class enlarged to the image's size before the argmax.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from eseg_ros.engine.manifest import load_engine
from eseg_ros.node.benchmark.process import spin
from eseg_ros.node.signals import StopSignals
from eseg_ros.runtime.types import Image8

DEPTH = 10


class NaiveNode(Node):
    """Segments in the callback.

    Attributes:
        inference_ms: CPU time of each frame's inference, which with one thread is all done in this one.
    """

    def __init__(self, engine: Path, image_topic: str, mask_topic: str) -> None:
        import openvino

        super().__init__("naive")
        loaded = load_engine(engine)
        self.inference_ms: list[float] = []
        self._input = loaded.manifest.input
        self._model: Any = openvino.Core().compile_model(
            str(loaded.onnx), "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        )
        self._masks = self.create_publisher(Image, mask_topic, DEPTH)
        self.create_subscription(Image, image_topic, self._on_image, DEPTH)

    def _on_image(self, message: Image) -> None:
        image = picture_of(message)
        tensor = self._preprocess(image)
        begin_ns = time.thread_time_ns()
        logits = self._model(tensor)[0][0]  # (C, h, w)
        self.inference_ms.append((time.thread_time_ns() - begin_ns) / 1e6)
        scores = cv2.resize(logits.transpose(1, 2, 0), (message.width, message.height))  # (H, W, C)
        answer = message_of(scores.argmax(axis=2).astype(np.uint8))
        answer.header = message.header
        self._masks.publish(answer)

    def _preprocess(self, image: Image8) -> Any:
        """(1, 3, height, width) float32."""
        resized = cv2.resize(image, (self._input.width, self._input.height)).astype(np.float32) / 255
        normalized = (resized - np.array(self._input.mean, np.float32)) / np.array(self._input.std, np.float32)
        return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None])


def picture_of(message: Image) -> Image8:
    """What `CvBridge().imgmsg_to_cv2(message, "rgb8")` does with a bgr8 image."""
    view = np.ndarray((message.height, message.step // 3, 3), np.uint8, message.data)
    rgb: Image8 = cv2.cvtColor(np.ascontiguousarray(view[:, : message.width]), cv2.COLOR_BGR2RGB)
    return rgb


def message_of(mask: Image8) -> Image:
    """What `CvBridge().cv2_to_imgmsg(mask, "mono8")` does."""
    message = Image(height=mask.shape[0], width=mask.shape[1], encoding="mono8", step=mask.shape[1])
    message.data.frombytes(mask.tobytes())
    return message


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment until a signal comes, and write {"inference_ms": [...]}."""
    parser = argparse.ArgumentParser(description="A node as it is usually written.")
    parser.add_argument("engine", type=Path, metavar="ENGINE.json")
    parser.add_argument("topics", nargs=2, metavar=("IMAGES", "MASKS"))
    parser.add_argument("--record", type=Path, required=True, metavar="FILE.json")
    options = parser.parse_args(arguments)
    with StopSignals() as stopped:  # rclpy's own handlers end it as well, but not every time
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node = NaiveNode(options.engine, *options.topics)
        spin(node, stopped)
        rclpy.shutdown()
    options.record.write_text(json.dumps({"inference_ms": node.inference_ms}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
