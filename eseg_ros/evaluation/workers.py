"""Spreads jobs over workers, each of which works in a process of its own, and starts lost ones anew."""

from __future__ import annotations

import multiprocessing
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Protocol

Job = Any
"""Anything that can be pickled and hashed."""
Work = Callable[[Job], Any]
WorkFactory = Callable[[], AbstractContextManager[Work]]
"""Makes, in the worker's process, what does the jobs; left when the worker ends. Can be pickled."""

ATTEMPTS = 3
"""Workers that a job may cost: it may be the job that kills them."""
_STOP_TIMEOUT_S = 10.0


class WorkerLostError(Exception):
    """A worker died or cannot be reached any more; its job may be done by another."""


class Pool(Protocol):
    """Workers that do one job at a time each."""

    @property
    def size(self) -> int:
        """How many workers there are."""

    def start(self, job: Job) -> None:
        """Give a job to a free worker. Fewer than `size` jobs are under way."""

    def wait(self) -> list[tuple[Job, Any]]:
        """Block until jobs end; each with its result or a WorkerLostError. Lost workers are replaced.

        Raises:
            RuntimeError: a job failed unexpectedly.
        """


def do_all(jobs: Sequence[Job], pool: Pool) -> Iterator[tuple[Job, Any]]:
    """Every job with its result, as they are finished; a job whose workers died ATTEMPTS times with a WorkerLostError.

    Raises:
        RuntimeError: a job failed unexpectedly.
    """
    waiting = deque(jobs)
    under_way = 0
    lost: Counter[Job] = Counter()
    while waiting or under_way:
        while waiting and under_way < pool.size:
            pool.start(waiting.popleft())
            under_way += 1
        for job, result in pool.wait():
            under_way -= 1
            lost[job] += isinstance(result, WorkerLostError)
            if isinstance(result, WorkerLostError) and lost[job] < ATTEMPTS:
                waiting.append(job)
            else:
                yield job, result


class ProcessPool:
    """Processes on this machine; a context manager.

    Args:
        factory: makes what does the jobs.
        size: how many processes.
    """

    def __init__(self, factory: WorkFactory, size: int) -> None:
        self._factory = factory
        self.size = size
        self._workers: list[_Process] = []

    def __enter__(self) -> ProcessPool:
        self._workers = [_Process(self._factory) for _ in range(self.size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop(gently=kind is None)

    def start(self, job: Job) -> None:
        """See `Pool.start`."""
        next(worker for worker in self._workers if worker.job is None).start(job)

    def wait(self) -> list[tuple[Job, Any]]:
        """See `Pool.wait`."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        ended = []
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]  # typeshed: wait() forgets the kind of its objects
            job, worker.job = worker.job, None
            try:
                ended.append((job, worker.result()))
            except (EOFError, ConnectionError):
                worker.stop(gently=False)
                self._workers[self._workers.index(worker)] = _Process(self._factory)
                ended.append((job, WorkerLostError(f"its process ended with status {worker.process.exitcode}")))
        return ended


class _Process:
    """A worker's process and the line to it.

    Attributes:
        job: what it does; None while it is free.
    """

    def __init__(self, factory: WorkFactory) -> None:
        # "spawn": a forked child would inherit the threads' locks of OpenMP and OpenCV, but not their threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, factory), daemon=True)
        self.process.start()
        theirs.close()  # else its death would not end the line
        self.job: Job | None = None

    def start(self, job: Job) -> None:
        self.job = job
        with suppress(ConnectionError):  # it died before; the line's end will tell
            self.connection.send(job)

    def result(self) -> Any:
        done, result = self.connection.recv()
        if not done:
            raise RuntimeError(f"a worker failed:\n{result}")
        return result

    def stop(self, *, gently: bool) -> None:
        self.connection.close()  # which ends `_serve`
        if gently:
            self.process.join(_STOP_TIMEOUT_S)
        self.process.kill()
        self.process.join()


def _serve(connection: Connection, factory: WorkFactory) -> None:
    """The worker's process: one job after another until the line is closed."""
    try:
        with factory() as work:
            while True:
                try:
                    job = connection.recv()
                except EOFError:
                    return
                connection.send((True, work(job)))
    except KeyboardInterrupt:
        return  # the parent was interrupted too
    except Exception:
        connection.send((False, traceback.format_exc()))
