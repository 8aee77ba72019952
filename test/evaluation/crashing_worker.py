"""A worker for the tests of pools: does what its jobs say. Importable in other processes, unlike a test's module."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def working(folder: Path) -> Iterator[Callable[[str], str]]:
    """Jobs are "fine", "die once", "die" and "fail", with a name behind; all are noted in `folder`."""

    def work(job: str) -> str:
        what, _, name = job.rpartition(" ")
        tries = len(list(folder.glob(f"{name}.*")))
        (folder / f"{name}.{tries}").write_text(str(os.getpid()))
        if what == "die" or (what == "die once" and tries == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fail":
            raise ValueError(f"{name} cannot be")
        return name.upper()

    yield work
