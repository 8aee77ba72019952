"""Which of a run's processes this is. `torchrun` starts them, one a device, and says so in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """One of the processes that train together; the only one unless torchrun started it.

    Attributes:
        rank: its number, from 0; 0 writes files and talks.
        world: how many there are.
        nodes: machines that they run on.
    """

    rank: int = 0
    world: int = 1
    nodes: int = 1


ALONE = Process()


def this_process() -> Process:
    """What torchrun told this process (https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables)."""
    variables = os.environ
    return Process(
        int(variables.get("RANK", 0)), int(variables.get("WORLD_SIZE", 1)), int(variables.get("GROUP_WORLD_SIZE", 1))
    )
