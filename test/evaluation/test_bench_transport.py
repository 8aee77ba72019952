"""The node between two processes, beside an echo and the usual way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eseg_ros.evaluation.bench_transport import (
    CONTESTANTS,
    LIMITS,
    PROMISES,
    Measured,
    TransportError,
    bench_transport,
    judge,
    summarize,
    transport_table,
)


@pytest.fixture(scope="module")
def report(tiny_engine: Path) -> dict[str, Any]:
    """A short run on small images, whose times mean nothing."""
    return bench_transport(tiny_engine, camera=(96, 64), rate_hz=20, seconds=1, rounds=1, light=tiny_engine)


def test_every_contestant_answers_the_same_images(report: dict[str, Any]) -> None:
    assert list(report["contestants"]) == list(CONTESTANTS)
    for numbers in report["contestants"].values():
        assert numbers["published"] == 20
        assert 0 < numbers["answered"] <= 20
        assert 0 < numbers["latency_ms"]["p50"] <= numbers["latency_ms"]["p99"]


def test_only_those_with_an_engine_have_times_of_one(report: dict[str, Any]) -> None:
    echo, _, node, naive = (report["contestants"][name] for name in CONTESTANTS)

    assert (echo["runtime_ms"], echo["inference_ms"], naive["runtime_ms"]) == (None, None, None)
    assert echo["outside_ms"] == echo["latency_ms"]["p50"]
    assert node["outside_ms"] == pytest.approx(node["latency_ms"]["p50"] - node["runtime_ms"], abs=1e-3)
    assert node["runtime_ms"] > 0
    assert node["inference_ms"] == naive["inference_ms"] > 0


def test_every_number_is_in_the_table(report: dict[str, Any]) -> None:
    table = transport_table(report)

    for name in CONTESTANTS:
        assert any(line.split()[:2] == [name, "20"] for line in table.splitlines())


def test_the_table_says_of_every_promise_whether_it_is_held(report: dict[str, Any]) -> None:
    limits = {name: {"value": 1.25, "limit": 2.0, "held": True} for name in LIMITS}
    limits["outside"] = {"value": 1.5, "limit": 1.3, "held": False}

    table = transport_table({**report, "limits": limits})

    for name, limit in limits.items():
        (line,) = [line for line in table.splitlines() if PROMISES[name] in line]
        assert line.startswith("held " if limit["held"] else "NOT HELD ")
        assert line.endswith(f"{limit['value']:g}, {'at least' if 'gain' in name else 'at most'} {limit['limit']:g}")


def measured(latency_ms: float, *, cpu_ms: float, runtime_ms: float | None = None, lost: int = 0) -> dict[str, Any]:
    """Ten images, all answered, with an inference of 1 ms where there is a runtime."""
    runtimes = [] if runtime_ms is None else [runtime_ms]
    return summarize(Measured(10, [latency_ms] * 10, cpu_s=cpu_ms / 100, runtime_ms=runtimes, lost=lost), 1.0)


def test_the_cpu_time_is_that_of_a_mask_without_the_inference() -> None:
    assert measured(20, cpu_ms=5, runtime_ms=8)["cpu_ms"] == pytest.approx(4)


def test_a_node_that_keeps_all_promises_is_told_so() -> None:
    contestants = {
        "echo": measured(10, cpu_ms=2),
        "light": measured(20, cpu_ms=5, runtime_ms=8),
        "node": measured(30, cpu_ms=5, runtime_ms=8),
        "naive": measured(90, cpu_ms=41),
    }
    limits = judge(contestants)

    assert {name: limit["value"] for name, limit in limits.items()} == {
        "lost": 0,
        "outside": 1.2,
        "latency_gain": 3.0,
        "cpu_gain": 10.0,
    }
    assert all(limit["held"] for limit in limits.values())
    assert {name: limit["limit"] for name, limit in limits.items()} == LIMITS


def test_a_node_that_keeps_none_is_told_so() -> None:
    contestants = {
        "echo": measured(10, cpu_ms=2),
        "light": measured(22, cpu_ms=5, runtime_ms=8, lost=1),
        "node": measured(30, cpu_ms=5, runtime_ms=8),
        "naive": measured(50, cpu_ms=10),
    }

    assert [limit["held"] for limit in judge(contestants).values()] == [False] * 4


def test_nothing_is_concluded_from_no_answer() -> None:
    with pytest.raises(TransportError, match="none of 10 images was answered"):
        summarize(Measured(published=10), None)
