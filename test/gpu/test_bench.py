"""`eseg bench --gpu` on this GPU; no speed is asserted."""

from __future__ import annotations

import json

from copying_network import CopyingNetwork, manifest_of

from eseg_ros.evaluation.bench_gpu import STAGES, bench_gpu
from eseg_ros.evaluation.bench_gpu_command import gpu_table


def test_networks_are_timed_alone_and_in_the_pipeline() -> None:
    report = bench_gpu([CopyingNetwork(manifest_of()), CopyingNetwork(manifest_of(2))], repeat=2, frames=4)
    assert json.loads(json.dumps(report)) == report
    for configuration in report["configurations"]:
        assert set(configuration["bare"]) == {"plain", "graph"}
        assert all(0 < configuration[stage]["p50"] <= configuration[stage]["p99"] for stage in STAGES)
    assert "copies" in gpu_table(report)
