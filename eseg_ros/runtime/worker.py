"""The one thread that runs an engine for all cameras: mailboxes in front, callbacks behind, every frame counted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from eseg_ros.errors import DeviceError, FrameError
from eseg_ros.runtime.image import MAX_PIXELS, check_size
from eseg_ros.runtime.mailbox import Letter, Mailbox
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime

STAGES = ("wait", "preprocess", "inference", "postprocess", "total")
PERCENTILES = (50, 95, 99)
WINDOW = 512
"""Frames that the stage statistics look back on."""

LOST_DEVICE_POLL_S = 0.5
"""How soon a lost device is noticed where no new frame comes."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of a camera's frames since the worker was made.

    received = published + dropped_busy + dropped_stale + rejected + failed + waiting + in_flight, at any moment.

    Attributes:
        received: frames offered.
        published: frames whose result was handed over.
        dropped_busy: frames that a newer one replaced before they were taken, or that came while paused.
        dropped_stale: frames older than `max_age_ns` when they were taken.
        rejected: frames that could not be used.
        failed: frames lost to a failure of the engine or to the worker's end.
        waiting: frames in the mailbox, 0 or 1.
        in_flight: frames in the pipeline.
    """

    received: int = 0
    published: int = 0
    dropped_busy: int = 0
    dropped_stale: int = 0
    rejected: int = 0
    failed: int = 0
    waiting: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class _Camera:
    """One camera's mailbox, counts and recent times. Guarded by the worker's lock."""

    mailbox: Mailbox = field(default_factory=Mailbox)
    counts: dict[str, int] = field(default_factory=lambda: asdict(Counters()))
    times_ms: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=WINDOW))


@dataclass(frozen=True, slots=True)
class _Flight:
    """A frame in the pipeline."""

    camera: str
    letter: Letter
    wait_ms: float


class Worker:
    """Runs a runtime in a thread of its own; cameras' frames come by `offer`, results leave by `on_result`.

    The thread loads the engine, makes every call into it and closes it, so that a GPU's context belongs to it. It
    sleeps on one condition, which a new frame and a finished slot both wake; with a runtime that must be polled it
    sleeps only while nothing is under way. A free slot is filled before a finished one is emptied, so that the device
    never waits for a postprocessing. Cameras take turns: a fast one cannot starve a slow one.

    Args:
        runtime: not loaded yet; it belongs to the worker from now on.
        cameras: their names.
        on_result: called in the worker's thread with the camera and its result.
        on_drop: called with the camera, the reason (a field of `Counters`), the frame and, where one is at fault, the
            error; in the worker's thread, or in that which offers the newer frame.
        on_failure: called once in the worker's thread when the engine or a callback fails; the worker takes no more
            frames then, and a new one is needed.
        outputs: what the camera's result must hold, asked for each frame.
        max_age_ns: frames older than this when they are taken are dropped; 0 = off. May be changed while running.
        now_ns: the clock that ages are measured on, the one that stamps the frames.
        max_pixels: larger frames are rejected, compressed ones by their header. May be changed while running.
        convert: makes a frame that the runtime cannot decode into one that it can, in the worker's thread; FrameError
            where that is impossible.
    """

    def __init__(
        self,
        runtime: Runtime,
        cameras: Sequence[str],
        *,
        on_result: Callable[[str, Result], None],
        on_drop: Callable[[str, str, Frame, Exception | None], None],
        on_failure: Callable[[Exception], None],
        outputs: Callable[[str], Outputs],
        max_age_ns: int = 0,
        now_ns: Callable[[], int] = time.time_ns,
        max_pixels: int = MAX_PIXELS,
        convert: Callable[[Frame], Frame] = lambda frame: frame,
    ) -> None:
        self.max_age_ns = max_age_ns
        self.max_pixels = max_pixels
        self._pipeline = Pipeline(runtime)
        self._on_result = on_result
        self._on_drop = on_drop
        self._on_failure = on_failure
        self._outputs = outputs
        self._now_ns = now_ns
        self._convert = convert
        self._cameras = {name: _Camera() for name in cameras}
        self._turn = deque(self._cameras)
        self._flights: deque[_Flight] = deque()
        self._condition = threading.Condition()
        self._accepting = True
        self._stopping = False
        self._loaded = threading.Event()
        self._load_error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="eseg-worker", daemon=True)

    def start(self) -> None:
        """Start the thread, which loads the engine first."""
        self._thread.start()

    def wait_loaded(self, timeout_s: float | None = None) -> bool:
        """Whether the engine is loaded, waiting for it for at most `timeout_s`.

        Raises:
            EngineError, DeviceError, ...: what loading raised.
        """
        loaded = self._loaded.wait(timeout_s)
        if self._load_error is not None:
            raise self._load_error
        return loaded

    def offer(self, camera: str, frame: Frame) -> None:
        """Lay a frame into its camera's mailbox, displacing an older one. Never waits for the engine.

        Raises:
            KeyError: no such camera.
        """
        letter = Letter(frame, time.perf_counter_ns())
        with self._condition:
            entry = self._cameras[camera]
            entry.counts["received"] += 1
            entry.counts["waiting"] += 1
            displaced = entry.mailbox.put(letter) if self._accepting else letter
            if displaced is not None:
                self._move(camera, "waiting", "dropped_busy")
            self._condition.notify_all()
        if displaced is not None:
            self._on_drop(camera, "dropped_busy", displaced.frame, None)

    def pause(self) -> None:
        """Drop what waits and what comes; what is under way is finished."""
        with self._condition:
            self._accepting = False
            dropped = self._empty_mailboxes("dropped_busy")
        for camera, letter in dropped:
            self._on_drop(camera, "dropped_busy", letter.frame, None)

    def resume(self) -> None:
        """Take frames again after `pause`."""
        with self._condition:
            self._accepting = not self._stopping

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread and free the engine; whether both were done within `timeout_s`. May be called twice."""
        with self._condition:
            self._stopping = True
            self._accepting = False
            self._condition.notify_all()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def counters(self, camera: str) -> Counters:
        """A consistent snapshot of a camera's counts."""
        with self._condition:
            return Counters(**self._cameras[camera].counts)

    def stages_ms(self, camera: str) -> dict[str, dict[str, float]]:
        """Percentiles of each stage's time over the last frames, milliseconds: {"inference": {"p50": ..., ...}, ...}.

        "total" runs from the frame's arrival to the end of its `on_result`. Empty before the first result.
        """
        with self._condition:
            times = list(self._cameras[camera].times_ms)
        if not times:
            return {}
        table = np.percentile(np.array(times), PERCENTILES, axis=0)  # (percentiles, stages)
        return {
            stage: {f"p{percentile}": float(table[row, column]) for row, percentile in enumerate(PERCENTILES)}
            for column, stage in enumerate(STAGES)
        }

    def _run(self) -> None:
        try:
            self._pipeline.load(self._wake)
        except Exception as error:  # told to whoever waits for the engine
            self._load_error = error
            self._end()
            self._loaded.set()
            return
        self._loaded.set()
        try:
            while self._step():
                pass
        except Exception as error:
            self._end()
            self._on_failure(error)
        else:
            self._end()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _step(self) -> bool:
        """Wait for something to do and do it; False at the end."""
        with self._condition:
            taken = None
            while not self._stopping:
                if self._pipeline.can_submit and (taken := self._take()):
                    break
                if self._pipeline.ready:
                    break
                self._rest()
            if self._stopping:
                return False
        if taken:
            self._submit(*taken)
        else:
            self._collect()
        return True

    def _rest(self) -> None:
        """Give way until there may be something to do; called with the lock held.

        A device that is lost wakes nobody, so a frame under way is asked after now and then.
        """
        if not self._pipeline.in_flight:
            self._condition.wait()
        elif not self._pipeline.runtime.polled:
            self._condition.wait(LOST_DEVICE_POLL_S)
        else:
            self._condition.release()
            time.sleep(0)  # lets other threads have the interpreter's lock, without sleeping
            self._condition.acquire()

    def _take(self) -> tuple[str, Letter] | None:
        """The next camera's frame, in turn; called with the lock held."""
        for _ in range(len(self._turn)):
            camera = self._turn[0]
            self._turn.rotate(-1)
            if letter := self._cameras[camera].mailbox.take():
                self._move(camera, "waiting", "in_flight")
                return camera, letter
        return None

    def _submit(self, camera: str, letter: Letter) -> None:
        """Start a frame, unless it is too old or cannot be used."""
        if 0 < self.max_age_ns < self._now_ns() - letter.frame.stamp_ns:
            self._drop(camera, "dropped_stale", letter, None)
            return
        wait_ms = _milliseconds_since(letter.arrival_ns)
        try:
            check_size(letter.frame, self.max_pixels)
            self._pipeline.submit(self._convert(letter.frame), self._outputs(camera))
        except FrameError as error:
            self._drop(camera, "rejected", letter, error)
        except Exception:
            self._settle(camera, "failed")
            raise
        else:
            self._flights.append(_Flight(camera, letter, wait_ms))

    def _collect(self) -> None:
        """Finish the oldest frame and hand its result over."""
        flight = self._flights.popleft()
        try:
            result = self._pipeline.collect()
            result = replace(result, timings=replace(result.timings, wait_ms=flight.wait_ms))
            self._on_result(flight.camera, result)
        except Exception:
            self._settle(flight.camera, "failed")
            raise
        timings = result.timings
        total_ms = _milliseconds_since(flight.letter.arrival_ns)
        times = (timings.wait_ms, timings.preprocess_ms, timings.inference_ms, timings.postprocess_ms, total_ms)
        self._settle(flight.camera, "published", times)

    def _end(self) -> None:
        """Free the engine and account for every frame that was still here."""
        with self._condition:
            self._stopping = True
            self._accepting = False
            self._empty_mailboxes("failed")
            for flight in self._flights:
                self._move(flight.camera, "in_flight", "failed")
            self._flights.clear()
        with contextlib.suppress(DeviceError):  # a lost device cannot be freed; the failure that lost it has been told
            self._pipeline.close()

    def _drop(self, camera: str, reason: str, letter: Letter, error: Exception | None) -> None:
        self._settle(camera, reason)
        self._on_drop(camera, reason, letter.frame, error)

    def _settle(self, camera: str, fate: str, times_ms: tuple[float, ...] | None = None) -> None:
        """A frame in flight has met its fate."""
        with self._condition:
            self._move(camera, "in_flight", fate)
            if times_ms is not None:
                self._cameras[camera].times_ms.append(times_ms)

    def _empty_mailboxes(self, fate: str) -> list[tuple[str, Letter]]:
        """Take every waiting frame out; called with the lock held."""
        dropped = []
        for camera, entry in self._cameras.items():
            if letter := entry.mailbox.take():
                self._move(camera, "waiting", fate)
                dropped.append((camera, letter))
        return dropped

    def _move(self, camera: str, source: str, target: str) -> None:
        """Recount one frame; called with the lock held."""
        counts = self._cameras[camera].counts
        counts[source] -= 1
        counts[target] += 1


def _milliseconds_since(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / 1e6
