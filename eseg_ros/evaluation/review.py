"""Looks at every frame that the node answered: scores it, counts it, draws it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from eseg_ros.bag.reader import BagReader, mono8_pixels
from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.report import Panel
from eseg_ros.evaluation.video import VideoWriter
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.types import Frame, Image8

PANELS = 4
"""Frames shown, spread evenly over the drive; the worst one comes on top where there is ground truth."""
ALPHA = 0.5
"""Weight of the colours in an overlay."""
VIDEO_WIDTH = 480
"""Pixels of each half of the video."""
VISIBLE_SHARE = 0.002
"""Share of the pixels from which on a class counts as visible in a frame."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame that was answered.

    Attributes:
        index: its place in the drive, from 0.
        stamp_ns: its stamp.
        image: (H, W, 3) uint8 BGR, what the node saw.
        mask: (H, W) uint8, what it published.
        label: (H, W) uint8, what is right; None where nobody knows.
    """

    index: int
    stamp_ns: int
    image: Image8
    mask: Image8
    label: Image8 | None


def scenes(
    bag: Path, topic: str, label_topic: str | None, masks: Path, mask_topic: str, frames: int
) -> Iterator[Scene]:
    """The first `frames` images of a bag's topic that have a mask of the same stamp, in their order.

    Raises:
        EsegError: a bag is damaged or does not hold what its topics promise.
    """
    with ExitStack() as stack:
        # A reader for each topic: they are read side by side.
        images = stack.enter_context(BagReader(bag)).frames(topic, frames)
        answers = _ByStamp(stack.enter_context(BagReader(masks)).frames(mask_topic))
        truth = _ByStamp(stack.enter_context(BagReader(bag)).frames(label_topic) if label_topic else iter(()))
        for index, frame in enumerate(images):
            mask = answers.find(frame.stamp_ns)
            if mask is not None:
                label = truth.find(frame.stamp_ns)
                yield Scene(
                    index=index,
                    stamp_ns=frame.stamp_ns,
                    image=decode(frame),
                    mask=mono8_pixels(mask),
                    label=None if label is None else mono8_pixels(label),
                )


class _ByStamp:
    """Finds frames by rising stamps, reading them once and holding one at a time."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._next = next(frames, None)

    def find(self, stamp_ns: int) -> Frame | None:
        while self._next is not None and self._next.stamp_ns < stamp_ns:
            self._next = next(self._frames, None)
        return self._next if self._next is not None and self._next.stamp_ns == stamp_ns else None


class Review:
    """Gathers what a drive shows, one scene at a time; a context manager, because it writes a video.

    Args:
        manifest: of the engine that made the masks.
        expected: how many scenes will come.
        video: path of the video without suffix.
        rate_hz: frames a second of the video.

    Attributes:
        confusion: counts of the scenes that have a label.
        mask_pixels: (256,) int64, how often each id occurs in the masks.
        image_size: (width, height) of the last scene.
        best: the panel whose mask shows most classes.
        video: the video; None before the first scene.
    """

    def __init__(self, manifest: EngineManifest, expected: int, video: Path, rate_hz: float) -> None:
        self.confusion = ConfusionMatrix(len(manifest.classes), manifest.classes.ignore_id)
        self.mask_pixels: npt.NDArray[np.int64] = np.zeros(256, np.int64)
        self.image_size = (0, 0)
        self.best: Panel | None = None
        self.video: Path | None = None
        self._video_stem, self._rate_hz = video, rate_hz
        self._writer: VideoWriter | None = None
        self._painter = Painter(manifest.classes)
        self._stack = ExitStack()
        self._seen = 0
        self._spread = set(np.linspace(0, max(expected - 1, 0), PANELS).round().astype(int).tolist())
        self._panels: dict[int, Panel] = {}
        self._most_classes = 0
        self._worst: tuple[float, int, Panel] | None = None
        self._first_stamp_ns = 0

    def __enter__(self) -> Review:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def panels(self) -> list[Panel]:
        """Frames spread over the drive and the one with the lowest pixel accuracy, in the order of the drive."""
        panels = dict(self._panels)
        if self._worst is not None:
            panels[self._worst[1]] = self._worst[2]
        return [panels[index] for index in sorted(panels)]

    def add(self, scene: Scene) -> None:
        """Take one scene; they must come in the order of the drive.

        Raises:
            ValueError: the label has another size than the mask, or an id that is no class.
        """
        accuracy = self._score(scene)
        counts = np.bincount(scene.mask.ravel(), minlength=256)
        self.mask_pixels += counts
        self.image_size = (scene.image.shape[1], scene.image.shape[0])
        overlay = self._paint(scene.image, scene.mask)
        self._film(scene.image, overlay)
        self._keep(scene, overlay, accuracy, int((counts > VISIBLE_SHARE * scene.mask.size).sum()))
        self._seen += 1

    def _score(self, scene: Scene) -> float | None:
        """Count the scene; its pixel accuracy, or None without a label."""
        if scene.label is None:
            return None
        one = ConfusionMatrix(self.confusion.num_classes, self.confusion.ignore_id)
        one.update(scene.mask, scene.label)
        self.confusion.merge(one)
        return one.pixel_accuracy()

    def _paint(self, image: Image8, ids: Image8) -> Image8:
        """Class ids over the image in the palette's colours: masks and ground truth alike."""
        return self._painter.overlay(image, self._painter.color_mask(ids), ALPHA)

    def _film(self, image: Image8, overlay: Image8) -> None:
        height, width = image.shape[:2]
        size = (VIDEO_WIDTH, 2 * round(height * VIDEO_WIDTH / width / 2))  # encoders want even sizes
        if self._writer is None:
            self._writer = VideoWriter(self._video_stem, 2 * size[0], size[1], self._rate_hz)
            self._stack.enter_context(self._writer)
            self.video = self._writer.path
        halves = [cv2.resize(half, size, interpolation=cv2.INTER_AREA) for half in (image, overlay)]
        self._writer.write(np.hstack(halves))

    def _keep(self, scene: Scene, overlay: Image8, accuracy: float | None, visible_classes: int) -> None:
        """Keep the scene as a panel if it is one to be shown."""
        if self._seen == 0:
            self._first_stamp_ns = scene.stamp_ns
        is_worst = accuracy is not None and (self._worst is None or accuracy < self._worst[0])
        is_best = self._seen in self._spread and visible_classes > self._most_classes
        if self._seen not in self._spread and not is_worst:
            return
        seconds = (scene.stamp_ns - self._first_stamp_ns) / 1e9
        caption = f"frame {scene.index}, {seconds:.1f} s"
        if accuracy is not None:
            caption += f", {accuracy:.1%} of the pixels right"
        truth = None if scene.label is None else self._paint(scene.image, scene.label)
        panel = Panel(caption, scene.image.copy(), truth, overlay)
        if self._seen in self._spread:
            self._panels[scene.index] = panel
        if is_worst and accuracy is not None:
            worst = Panel(f"{caption}: the lowest of the drive", panel.camera, truth, overlay)
            self._worst = (accuracy, scene.index, worst)
        if is_best:
            self._most_classes, self.best = visible_classes, panel


def picture(panel: Panel, manifest: EngineManifest, mask_pixels: npt.NDArray[np.int64]) -> Image8:
    """Camera image and overlay side by side over a legend of the classes that the drive shows. (H, W, 3) uint8 BGR."""
    side_by_side = np.hstack([panel.camera, panel.overlay])
    width = side_by_side.shape[1]
    visible = np.flatnonzero(mask_pixels[: len(manifest.classes)] > VISIBLE_SHARE / 10 * mask_pixels.sum())
    scale = width / 1280
    font, row_height, margin = cv2.FONT_HERSHEY_SIMPLEX, round(34 * scale), round(14 * scale)
    legend: Image8 = np.full((round(1.5 * row_height), width, 3), 255, np.uint8)
    x, y = margin, row_height
    for class_id in visible.tolist():
        name = manifest.classes.names[class_id].replace("_", " ")
        swatch_width, text_width = round(28 * scale), cv2.getTextSize(name, font, 0.6 * scale, 1)[0][0]
        if x + swatch_width + text_width > width:
            x, y = margin, y + row_height
            legend = np.vstack([legend, np.full((row_height, width, 3), 255, np.uint8)])
        corners = (x, y - round(15 * scale)), (x + round(20 * scale), y + round(5 * scale))
        cv2.rectangle(legend, *corners, manifest.classes.palette[class_id][::-1], cv2.FILLED)
        cv2.putText(legend, name, (x + swatch_width, y), font, 0.6 * scale, (40, 40, 40), 1, cv2.LINE_AA)
        x += swatch_width + text_width + 2 * margin
    return np.vstack([side_by_side, legend])
