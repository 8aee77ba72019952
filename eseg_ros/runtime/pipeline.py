"""Frames in order through a runtime's slots: one is prepared while another is inferred and a third is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from eseg_ros.errors import FrameError
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime


class Pipeline:
    """The slots of a runtime as a queue: results come out in the order in which frames went in.

    One thread makes every call. The node's worker drives it by `submit` and `collect`, the evaluator by `map`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._free = deque(range(runtime.slots))
        self._under_way: deque[int] = deque()

    def __enter__(self) -> Pipeline:
        self.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, notify: Callable[[], None] = lambda: None) -> None:
        """Load the engine; `notify` is called, from any thread, when a slot becomes ready. Errors: Runtime.load."""
        self.runtime.load(notify)

    @property
    def can_submit(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    @property
    def in_flight(self) -> int:
        """Frames under way."""
        return len(self._under_way)

    @property
    def ready(self) -> bool:
        """Whether `collect` would return without waiting for the inference."""
        return bool(self._under_way) and self.runtime.ready(self._under_way[0])

    def submit(self, frame: Frame, outputs: Outputs) -> None:
        """Start a frame in a free slot.

        Raises:
            FrameError: the frame cannot be used; no slot is taken.
            DeviceError: the inference could not be started.
            IndexError: no slot is free.
        """
        self.runtime.submit(self._free[0], frame, outputs)
        self._under_way.append(self._free.popleft())

    def collect(self) -> Result:
        """Finish the oldest frame, waiting for it where needed. Its slot is free afterwards, whatever happens.

        Raises:
            DeviceError: the inference failed.
            IndexError: nothing is under way.
        """
        slot = self._under_way.popleft()
        try:
            return self.runtime.collect(slot)
        finally:
            self._free.append(slot)

    def map(self, frames: Iterable[Frame], outputs: Outputs | None = None) -> Iterator[Result | FrameError]:
        """Every frame's result, in order and overlapped; a frame that cannot be used gives its error instead.

        Raises:
            DeviceError: the inference failed.
        """
        wanted = outputs or Outputs()
        waiting: deque[FrameError | None] = deque()  # None: the result is in the pipeline
        for frame in frames:
            if not self.can_submit:
                yield from self._finish_oldest(waiting)
            try:
                self.submit(frame, wanted)
                waiting.append(None)
            except FrameError as error:
                waiting.append(error)
        while waiting:
            yield from self._finish_oldest(waiting)

    def _finish_oldest(self, waiting: deque[FrameError | None]) -> Iterator[Result | FrameError]:
        """Results up to and including the oldest frame under way, so that a slot becomes free."""
        while waiting:
            error = waiting.popleft()
            if error is None:
                yield self.collect()
                return
            yield error

    def close(self) -> None:
        """Finish what is under way, discard it, and free the engine."""
        self.runtime.close()
        self._free.extend(self._under_way)
        self._under_way.clear()
