"""The queue, over processes of this machine and over Ray: the same promises."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eseg_ros.errors import EsegError
from eseg_ros.evaluation.ray_workers import RayPool
from eseg_ros.evaluation.workers import ATTEMPTS, ProcessPool, WorkerLostError, do_all

MakePool = Callable[[int], AbstractContextManager[Any]]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray")


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return partial(importlib.import_module("crashing_worker").working, tmp_path)


@pytest.fixture(params=["processes", pytest.param("ray", marks=[needs_ray, pytest.mark.slow])])
def make_pool(request: pytest.FixtureRequest, factory: Any) -> Iterator[MakePool]:
    if request.param == "processes":
        yield lambda size: ProcessPool(factory, size)
    else:
        address = request.getfixturevalue("ray_address")
        yield lambda size: RayPool(factory, address, size)


def tries(folder: Path, name: str) -> int:
    return len(list(folder.glob(f"{name}.*")))


def test_every_job_is_done_once_though_workers_die_on_the_way(make_pool: MakePool, tmp_path: Path) -> None:
    jobs = ["fine a", "die once b", "fine c", "die d", "fine e"]

    with make_pool(2) as pool:
        done = list(do_all(jobs, pool))

    results = dict(done)
    assert sorted(job for job, _ in done) == sorted(jobs)
    assert [results[job] for job in ("fine a", "die once b", "fine c", "fine e")] == ["A", "B", "C", "E"]
    assert isinstance(results["die d"], WorkerLostError)
    assert [tries(tmp_path, name) for name in "abcde"] == [1, 2, 1, ATTEMPTS, 1]


def test_a_job_that_fails_unexpectedly_ends_the_run_with_its_traceback(make_pool: MakePool) -> None:
    with make_pool(1) as pool, pytest.raises(RuntimeError, match=r"(?s)a worker failed.*x cannot be"):
        list(do_all(["fail x"], pool))


def test_workers_share_the_jobs(factory: Any, tmp_path: Path) -> None:
    with ProcessPool(factory, 2) as pool:
        assert pool.size == 2
        list(do_all([f"fine {name}" for name in "abcdefgh"], pool))

    assert len({path.read_text() for path in tmp_path.glob("*.0")}) == 2


def test_processes_end_with_their_pool(factory: Any) -> None:
    with ProcessPool(factory, 2) as pool:
        processes = [worker.process for worker in pool._workers]

    assert [process.exitcode for process in processes] == [0, 0]


def test_without_ray_the_way_to_get_it_is_said(factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(EsegError, match="not installed: pip install ray"), RayPool(factory, None, 1):
        pass
