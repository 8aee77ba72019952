"""Evaluates sequences with an engine: every frame through the node's pipeline, or live through the node itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from eseg_ros.bag.writer import COMPRESSED_IMAGE
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError, FrameError
from eseg_ros.evaluation.energy import EnergyMeter
from eseg_ros.evaluation.live import live_facts, live_views, run_live
from eseg_ros.evaluation.machine import machine_description
from eseg_ros.evaluation.mask_bag import MaskBag
from eseg_ros.evaluation.pictures import PictureSelection
from eseg_ros.evaluation.record import FrameScore, Record
from eseg_ros.evaluation.scoring import FrameView, Measures, score_frames
from eseg_ros.evaluation.sequences import BagSequence, FrameSequence, LabeledFrame
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs

Observer = Callable[[FrameView, FrameScore], None]

PICTURES = "pictures"
MASKS = "masks"
LIVE = "live"


@dataclass(frozen=True, slots=True)
class Settings:
    """How sequences are evaluated.

    Attributes:
        engine: manifest path.
        runtime: "auto", "openvino", "onnxruntime" or "tensorrt".
        threads: of the inference library, 0 = its own choice.
        reference: manifest path of an engine whose masks take the place of ground truth; None for none.
        live: through the real node over DDS, at `rate`, instead of every frame.
        rate: times the recorded speed, in live mode.
        measures: what is measured besides pixel counts and times.
        pictures: frames of each sequence that are kept as pictures, spread evenly; 0 for none.
        masks: whether to write the masks as a bag.
        progress: whether to show a bar of frames.
    """

    engine: Path
    runtime: str = "auto"
    threads: int = 0
    reference: Path | None = None
    live: bool = False
    rate: float = 1.0
    measures: Measures = field(default_factory=Measures)
    pictures: int = 0
    masks: bool = False
    progress: bool = True


class Evaluator:
    """An engine that is loaded once and evaluated on any number of sequences; a context manager.

    Raises:
        EngineError: the engine cannot be used; on entering.
        RuntimeUnavailableError: the library asked for is not installed; on entering.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.manifest = load_engine(settings.engine).manifest
        self._stack = ExitStack()
        self._pipeline: Pipeline | None = None
        self._reference: Pipeline | None = None

    def __enter__(self) -> Evaluator:
        if not self.settings.live:
            self._pipeline = self._load(self.settings.engine)
        if self.settings.reference is not None:
            self._reference = self._load(self.settings.reference)
            theirs = self._reference.runtime.manifest
            if theirs.classes.names != self.manifest.classes.names:
                raise EsegError(
                    f"{theirs.name} has the classes of {theirs.classes.name}, {self.manifest.name} those of "
                    f"{self.manifest.classes.name}; a reference must have the same classes"
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def evaluate(self, sequence: FrameSequence, folder: Path | None = None, observer: Observer | None = None) -> Record:
        """Score every frame of a sequence.

        Args:
            sequence: what to run the engine on.
            folder: existing, takes pictures, masks and the node's log; None where none of these is asked for.
            observer: sees every frame with its score.

        Raises:
            EsegError: the data are damaged or do not fit, or the node failed; the message names the file.
        """
        scores: list[FrameScore] = []
        classes = self.manifest.classes
        with ExitStack() as stack:
            expected, views, facts = self._views(sequence, folder)
            selection = PictureSelection(classes, expected, self.settings.pictures)
            masks: MaskBag | None = None
            if self.settings.masks and folder is not None:
                masks = stack.enter_context(MaskBag(folder / MASKS, classes))
            scored = score_frames(views, classes, self.settings.measures)
            for view, score in tqdm(
                scored, total=expected, desc=sequence.name, unit="frame", disable=not self.settings.progress or None
            ):
                scores.append(score)
                selection.add(view, score)
                if masks is not None:
                    masks.add(view)
                if observer is not None:
                    observer(view, score)
                if view.mask is not None:
                    facts["image_size"] = [view.mask.shape[1], view.mask.shape[0]]
        if folder is not None and self.settings.pictures:
            selection.write(folder / PICTURES)
        return Record.of(sequence.name, scores, len(classes), facts)

    def _views(self, sequence: FrameSequence, folder: Path | None) -> tuple[int, Iterator[FrameView], dict[str, Any]]:
        """How many frames there will be, the frames, and what is known of the run."""
        if self._pipeline is None:
            if not isinstance(sequence, BagSequence) or folder is None:
                raise EsegError(f"{sequence.name} is no bag; only bags can be replayed live. Leave --live away")
            expected, views, facts = self._replay(sequence, folder)
        else:
            outputs = Outputs(confidence=self.settings.measures.confidence)
            runtime = self._pipeline.runtime
            expected, views = sequence.count(), every_frame(sequence, self._pipeline, outputs)
            facts = {"runtime": runtime.name, "device": runtime.device}
        facts["machine"] = machine_description()
        if self._reference is not None:
            views = _with_reference(views, self._reference)
        return expected, views, facts

    def _replay(self, sequence: BagSequence, folder: Path) -> tuple[int, Iterator[FrameView], dict[str, Any]]:
        topic, live = sequence.image_topic(), folder / LIVE
        live.mkdir()
        with EnergyMeter() as meter:
            run = run_live(
                sequence.path,
                topic.name,
                compressed=topic.type == COMPRESSED_IMAGE,
                engine=self.settings.engine,
                folder=live,
                frames=sequence.limit,
                rate=self.settings.rate,
                parameters={"runtime": self.settings.runtime, "threads": self.settings.threads},
            )
        facts = live_facts(run)
        if meter.joules is not None:
            facts["energy_j"] = round(meter.joules, 3)
        return len(run.published), live_views(sequence, run), facts

    def _load(self, engine: Path) -> Pipeline:
        runtime = create_runtime(load_engine(engine), self.settings.runtime, threads=self.settings.threads)
        return self._stack.enter_context(Pipeline(runtime))


def every_frame(sequence: FrameSequence, pipeline: Pipeline, outputs: Outputs) -> Iterator[FrameView]:
    """The frames of a sequence with the pipeline's results: all of them, in order, and the same in every run.

    A frame that cannot be used has no mask.
    """
    under_way: deque[LabeledFrame] = deque()

    def frames() -> Iterator[Frame]:
        for labeled in sequence.frames():
            under_way.append(labeled)
            yield labeled.frame

    for index, result in enumerate(pipeline.map(frames(), outputs)):
        labeled = under_way.popleft()
        view = FrameView(labeled.name, index, labeled.frame, None, labeled.label, labeled.source)
        if not isinstance(result, FrameError):
            timings = result.timings
            view.mask, view.confidence = result.mask, result.confidence
            view.stages_ms = (timings.preprocess_ms, timings.inference_ms, timings.postprocess_ms)
            view.latency_ms = sum(view.stages_ms)
        yield view


def _with_reference(views: Iterator[FrameView], reference: Pipeline) -> Iterator[FrameView]:
    """The views with the reference engine's masks for labels."""
    for view in views:
        (result,) = reference.map([view.frame])
        view.label = None if isinstance(result, FrameError) else _as_label(result.mask, reference)
        view.label_source = f"mask of {reference.runtime.manifest.name} for {view.name}"
        yield view


def _as_label(mask: Image8, reference: Pipeline) -> Image8:
    """Where the reference is undecided, nobody knows."""
    classes = reference.runtime.manifest.classes
    label = mask.copy()
    label[mask >= len(classes)] = classes.ignore_id
    return label
