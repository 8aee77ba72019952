"""A small painted world whose answer is known: what the tiny engine makes of it is nearly what is on it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from eseg_ros.bag.writer import BagWriter
from eseg_ros.evaluation import command
from eseg_ros.labels import CAMVID

Image = npt.NDArray[np.uint8]
BagMaker = Callable[..., Path]
Evaluate = Callable[..., int]

TOPIC = "/camera/image_raw"
LABEL_TOPIC = "/camera/label"
PERIOD_NS = 100_000_000


def painted_frame(seed: int, index: int = 0) -> tuple[Image, Image]:
    """A 192x128 picture of noisy 32-pixel blocks in CamVid's colors, and what is on it. It moves by 2 pixels a frame.

    The tiny engine reads it back but for the blocks' edges; the noise keeps classes from being equally likely there.
    """
    rng = np.random.default_rng(seed)
    world = np.kron(rng.integers(0, len(CAMVID), (4, 12), np.uint8), np.ones((32, 32), np.uint8))
    colors = CAMVID.color_table()[world][..., ::-1] + rng.normal(0, 8, (*world.shape, 3))
    view = np.s_[:, 2 * index : 2 * index + 192]
    return np.ascontiguousarray(colors.clip(0, 255).astype(np.uint8)[view]), np.ascontiguousarray(world[view])


@pytest.fixture
def make_bag(tmp_path: Path) -> BagMaker:
    """`make_bag("night", seed=3, frames=5)`: a bag in tmp_path of painted frames with their labels."""

    def make(name: str, *, seed: int = 0, frames: int = 4, storage: str = "mcap", labels: bool = True) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with BagWriter(path, storage) as bag:
            for index in range(frames):
                image, label = painted_frame(seed, index)
                stamp_ns = (index + 1) * PERIOD_NS
                bag.write_image(TOPIC, image, stamp_ns, "camera")
                if labels:
                    bag.write_image(LABEL_TOPIC, label, stamp_ns, "camera", "mono8")
        return path

    return make


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray cluster of one node with two CPUs on this machine, whose workers can import this folder's modules."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = _started(cluster_utils)
    yield cluster.address
    cluster.shutdown()


def _started(cluster_utils: Any) -> Any:
    """Ray gives its daemons 30 s to start, which a busy machine can miss."""
    for attempts_left in (2, 1, 0):
        cluster = cluster_utils.Cluster()
        try:
            cluster.add_node(num_cpus=2, include_dashboard=False)
        except Exception:
            cluster.shutdown()
            if not attempts_left:
                raise
        else:
            return cluster


@pytest.fixture
def evaluate(tiny_engine: Path) -> Evaluate:
    """`evaluate("--bag", bag, "--out", run)`: `eseg evaluate` with the tiny engine; returns the exit status."""

    def run(*arguments: object, engine: Path = tiny_engine) -> int:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return command.run(parser.parse_args(["--engine", str(engine), *map(str, arguments)]))

    return run
