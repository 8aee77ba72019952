"""A plan is found, checked, loaded and run, whatever the version; the GPU is left out, its driver only keeps order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eseg_ros.engine.build import build_plan
from eseg_ros.engine.manifest import Engine
from eseg_ros.engine.plan import Plan
from eseg_ros.errors import DeviceError, EngineError
from eseg_ros.runtime.cuda.driver import DeviceInfo
from eseg_ros.runtime.tensorrt import api
from eseg_ros.runtime.tensorrt.network import TensorRtNetwork

RTX = "1.7.1.116"
INFO = DeviceInfo("RTX 2080", (7, 5), False, 12060, 1 << 33)


class CountingDriver:
    """The few calls of a driver that a warm-up makes; what it made and nobody freed is in `held`."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.recorded: list[tuple[int, int]] = []
        self.synchronized: list[int] = []
        self._next = 0x1000

    def _make(self, *_: object, **__: object) -> int:
        self._next += 0x1000
        self.held.add(self._next)
        return self._next

    alloc = stream = event = _make

    def _unmake(self, handle: int) -> None:
        self.held.remove(handle)

    free = destroy_stream = destroy_event = _unmake

    def record(self, event: int, stream: int) -> None:
        self.recorded.append((event, stream))

    def synchronize(self, event: int) -> None:
        self.synchronized.append(event)


@pytest.fixture
def driver() -> Iterator[Any]:
    """A driver that must have got everything back at the end."""
    driver = CountingDriver()
    yield driver
    assert driver.held == set()


@pytest.fixture
def target(version: str) -> str:
    """The target that `version` is a version of."""
    return "rtx" if version == RTX else "tensorrt"


@pytest.fixture
def plan(trt: Any, target: str, engine: Engine, tmp_path: Path) -> Plan:
    """The tiny engine's plan, built into `tmp_path`."""
    machine = api.machine_ahead(trt) if target == "rtx" else api.machine_of(trt, target, INFO)
    return build_plan(trt, engine, machine, tmp_path)[0]


@pytest.fixture
def network(trt: Any, target: str, engine: Engine, plan: Plan, tmp_path: Path) -> TensorRtNetwork:
    """The tiny engine, not loaded, whose plan is there."""
    return TensorRtNetwork(engine, target, tmp_path, trt=trt)


def test_every_version_loads_and_runs_with_the_names_it_has(
    network: TensorRtNetwork, driver: Any, world: Any, version: str
) -> None:
    network.load(driver, INFO)
    world.calls.clear()

    network.bind(0xA000, 0xB000)
    network.enqueue(77)
    network.enqueue(77)
    network.close()
    network.close()

    assert world.calls == [
        ("set_tensor_address", "image", 0xA000),
        ("set_tensor_address", "logits", 0xB000),
        ("execute_async_v3", 77),
        ("execute_async_v3", 77),
    ]
    assert (network.input_dtype, network.output_dtype) == (np.float32, np.float32)
    assert version in network.description
    assert network.scratch_bytes == 5 << 20


def test_loading_runs_one_inference_and_waits_for_it(network: TensorRtNetwork, driver: Any, world: Any) -> None:
    network.load(driver, INFO)

    ((event, stream),) = driver.recorded
    assert world.named("execute_async_v3") == [(stream,)]
    assert driver.synchronized == [event]


def test_tensorrt_gets_the_plan_as_it_was_built(network: TensorRtNetwork, driver: Any, world: Any) -> None:
    network.load(driver, INFO)

    assert world.named("deserialize_cuda_engine") == [(b"a plan",)]


def test_a_plan_that_is_cut_never_reaches_tensorrt(
    network: TensorRtNetwork, driver: Any, world: Any, plan: Plan
) -> None:
    plan.path.write_bytes(b"a pl")

    with pytest.raises(EngineError, match="the file is cut or was exchanged"):
        network.load(driver, INFO)
    assert world.named("deserialize_cuda_engine") == []


def test_a_plan_for_another_gpu_never_reaches_tensorrt(network: TensorRtNetwork, driver: Any, world: Any) -> None:
    other = DeviceInfo("Thor", (11, 0), True, 13000, 1 << 36)

    with pytest.raises(EngineError, match=r"this machine has .* compute capability 11\.0 \(Thor\)\. Build it again"):
        network.load(driver, other)
    assert world.named("deserialize_cuda_engine") == []


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("deserialize_cuda_engine", EngineError),
        ("create_execution_context", DeviceError),
        ("set_tensor_address", DeviceError),
        ("execute_async_v3", DeviceError),
    ],
)
def test_what_tensorrt_refuses_comes_with_its_reason_both_machines_and_the_command(
    network: TensorRtNetwork, driver: Any, world: Any, plan: Plan, failure: str, error: type[Exception]
) -> None:
    world.fail.add(failure)

    with pytest.raises(error) as raised:
        network.load(driver, INFO)
    for part in (f"{failure} failed", "built with", "this machine has", f"rm {plan.path}", "eseg build"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "changed",
    [
        [("image", "HALF", (1, 3, 64, 96), "INPUT"), ("logits", "FLOAT", (1, 11, 8, 12), "OUTPUT")],
        [("image", "FLOAT", (1, 3, 64, 96), "INPUT"), ("logits", "FLOAT", (1, 11, 64, 96), "OUTPUT")],
        [("image", "FLOAT", (1, 3, 64, 96), "INPUT"), ("scores", "FLOAT", (1, 11, 8, 12), "OUTPUT")],
    ],
)
def test_a_plan_with_other_tensors_than_the_manifest_says_is_not_run(
    network: TensorRtNetwork, driver: Any, world: Any, changed: list[Any]
) -> None:
    world.tensors[:] = changed

    with pytest.raises(EngineError, match=r"its tensors are .* but the engine's manifest says"):
        network.load(driver, INFO)
    assert world.named("execute_async_v3") == []


def test_a_missing_plan_is_not_built_by_itself(
    trt: Any, target: str, engine: Engine, driver: Any, world: Any, tmp_path: Path
) -> None:
    network = TensorRtNetwork(engine, target, tmp_path / "empty", trt=trt)

    with pytest.raises(EngineError, match=r"it has not been built.* Build it here: eseg build "):
        network.load(driver, INFO)
    assert world.named("build_serialized_network") == []


def test_a_missing_plan_is_built_if_that_was_asked_for(
    trt: Any, target: str, engine: Engine, driver: Any, world: Any, tmp_path: Path
) -> None:
    network = TensorRtNetwork(engine, target, tmp_path / "empty", auto_build=True, trt=trt)

    network.load(driver, INFO)

    assert len(world.named("build_serialized_network")) == 1
    assert len(world.named("execute_async_v3")) == 1


def test_a_failure_while_running_says_what_tensorrt_logged(network: TensorRtNetwork, driver: Any, world: Any) -> None:
    network.load(driver, INFO)
    network.bind(1, 2)
    world.fail.add("execute_async_v3")

    with pytest.raises(DeviceError, match=r"tiny\.onnx: execute_async_v3 failed"):
        network.enqueue(1)


def test_a_network_that_was_never_loaded_can_be_closed(network: TensorRtNetwork) -> None:
    network.close()
    network.close()
