"""Workers on a Ray cluster, with the same queue as processes on this machine."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.workers import Job, WorkerLostError, WorkFactory


class RayPool:
    """Actors on a Ray cluster; a context manager.

    Args:
        factory: makes what does the jobs; the package and the data must lie at the same paths on every node.
        address: of the cluster, e.g. "auto" or "ray://HOST:10001"; None for the one that RAY_ADDRESS names, else one
            on this machine that ends with the pool.
        most: at most so many actors; each takes one CPU of the cluster.
        gpus: GPUs that an actor takes.

    Raises:
        EsegError: Ray is not installed, or the cluster cannot be reached or has no CPU left; on entering.
    """

    def __init__(self, factory: WorkFactory, address: str | None, most: int, gpus: float = 0) -> None:
        self._factory = factory
        self._address = address
        self._most = most
        self._gpus = gpus
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}  # reference of the result -> actor, job
        self.size = 0

    def __enter__(self) -> RayPool:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a vehicle's data are nobody else's business
        try:
            import ray  # imported here: it takes a second, and few need it
        except ImportError as error:
            raise EsegError("--ray needs Ray, which is not installed: pip install ray") from error
        self._ray: Any = ray
        try:
            ray.init(address=self._address, log_to_driver=False, include_dashboard=None if self._address else False)
        except Exception as error:  # Ray has many, some of them bare
            raise EsegError(
                f"no Ray cluster at {self._address or 'this machine'} ({error}); start one: ray start --head"
            ) from error
        self.size = min(self._most, int(self._ray.cluster_resources().get("CPU", 0)))
        if self.size < 1:
            ray.shutdown()
            raise EsegError("the Ray cluster has no CPU to lend; add a node: ray start --address=HEAD:6379")
        self._actor = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(_Actor)
        self._idle = [self._actor.remote(self._factory) for _ in range(self.size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()  # which ends the actors

    def start(self, job: Job) -> None:
        """See `Pool.start`."""
        actor = self._idle.pop()
        self._busy[actor.work.remote(job)] = (actor, job)

    def wait(self) -> list[tuple[Job, Any]]:
        """See `Pool.wait`."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        ended: list[tuple[Job, Any]] = []
        for reference in ready:
            actor, job = self._busy.pop(reference)
            try:
                ended.append((job, self._ray.get(reference)))
                self._idle.append(actor)
            except self._ray.exceptions.RayTaskError as error:
                raise RuntimeError(f"a worker failed:\n{error}") from error
            except self._ray.exceptions.RayError as error:
                self._idle.append(self._actor.remote(self._factory))
                ended.append((job, WorkerLostError(str(error))))
        return ended


class _Actor:
    """A worker's process on a node of the cluster."""

    def __init__(self, factory: WorkFactory) -> None:
        self._context = factory()
        self._work = self._context.__enter__()

    def work(self, job: Job) -> Any:
        """Do one job."""
        return self._work(job)
