"""Thousands of frames: none is lost, and neither the device's memory nor the host's grows."""

from __future__ import annotations

import os
from itertools import cycle, islice
from pathlib import Path

import pytest
from copying_network import CopyingNetwork, manifest_of
from tqdm import tqdm

from eseg_ros.data.reading import image_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Image8, Outputs

FRAMES = 10_000
SLACK = 16 << 20
"""Bytes by which a count of memory may differ for reasons of its own: allocators take and give whole pages."""

KINDS = [Outputs(), Outputs(overlay=True), Outputs(color_mask=True, confidence=True, confidence_threshold=0.5)]


def host_memory() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def kinds(streets: list[Image8]) -> list[tuple[Frame, Outputs]]:
    """Frames of two cameras with outputs that change."""
    frames = [image_frame(image) for street in streets for image in (street, street[:101])]
    return [(frame, outputs) for frame in frames for outputs in KINDS]


@pytest.mark.soak
def test_memory_stays_flat_over_thousands_of_frames(
    driver: Driver, kinds: list[tuple[Frame, Outputs]], request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--soak-frames", FRAMES)
    runtime = CudaRuntime(driver, CopyingNetwork(manifest_of()), 2)
    published = 0
    with Pipeline(runtime) as pipeline:
        for number, (frame, outputs) in enumerate(tqdm(islice(cycle(kinds), count), total=count, disable=None)):
            if number == count // 10:
                before = driver.memory_free(), host_memory()
            if not pipeline.can_submit:
                pipeline.collect()
                published += 1
            pipeline.submit(frame, outputs)
        while pipeline.in_flight:
            pipeline.collect()
            published += 1
        after = driver.memory_free(), host_memory()
    assert published == count
    assert before[0] - after[0] < SLACK, "device"
    assert after[1] - before[1] < SLACK, "host"


@pytest.mark.soak
def test_memory_stays_flat_over_many_loads(driver: Driver, kinds: list[tuple[Frame, Outputs]]) -> None:
    """As a node does that is configured, activated and cleaned up again and again."""
    free = []
    for _ in range(10):
        runtime = CudaRuntime(driver, CopyingNetwork(manifest_of()), 2)
        runtime.load(lambda: None)
        for frame, outputs in kinds:
            runtime.submit(0, frame, outputs)
            runtime.collect(0)
        runtime.close()
        driver.open(0)
        free.append(driver.memory_free())
        driver.close()
    assert free[1] - free[-1] < SLACK
