"""How the GPU is used: what waits for what, what is captured, what is freed, and what a lost device leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError, EngineError, FrameError, RuntimeUnavailableError
from eseg_ros.labels import Relabeling
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result

FrameMaker = Callable[..., Frame]
RuntimeLoader = Callable[..., CudaRuntime]
EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)
PICTURES = ("mask", "color_mask", "overlay", "confidence")
WAITING = {"synchronize", "happened", "elapsed_ms"}
ALLOCATING = {"alloc", "free", "alloc_host", "free_host", "stream", "event", "load_module", "begin_capture"}
GIVING_BACK = {"free", "free_host", "destroy_stream", "destroy_event", "destroy_graph", "unload_module", "close"}


@pytest.fixture
def frame(make_frame: FrameMaker, painted: Image8) -> Frame:
    return make_frame(painted)


def run(runtime: CudaRuntime, frame: Frame, outputs: Outputs = EVERYTHING, slot: int = 0) -> Result:
    runtime.submit(slot, frame, outputs)
    return runtime.collect(slot)


def calls_of(driver: EmulatedDriver, action: Callable[[], object]) -> list[str]:
    """The names of the calls that an action makes into the driver."""
    before = len(driver.calls)
    action()
    return [call.name for call in driver.calls[before:]]


def assert_equal(result: Result, other: Result) -> None:
    for name in PICTURES:
        np.testing.assert_array_equal(getattr(result, name), getattr(other, name), err_msg=name)


def shifted(make_frame: FrameMaker, painted: Image8, blocks: int) -> Frame:
    """Another frame of the same size."""
    return make_frame(np.roll(painted, 8 * blocks, axis=1), blocks)


# A frame.


def test_only_what_was_asked_for_comes_back(runtime: CudaRuntime, frame: Frame) -> None:
    plain = run(runtime, frame, Outputs())
    assert (plain.color_mask, plain.overlay, plain.confidence) == (None, None, None)
    assert [getattr(run(runtime, frame), name).shape for name in PICTURES] == [
        (64, 96), (64, 96, 3), (64, 96, 3), (64, 96),
    ]  # fmt: skip


def test_stamp_frame_id_and_times_are_the_frames(runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8) -> None:
    result = run(runtime, make_frame(painted, 1234, "front"))
    assert (result.stamp_ns, result.frame_id) == (1234, "front")
    timings = result.timings
    assert min(timings.preprocess_ms, timings.inference_ms, timings.postprocess_ms) > 0


def test_a_result_outlives_its_slot_and_the_context(
    load_runtime: RuntimeLoader, make_frame: FrameMaker, painted: Image8
) -> None:
    runtime = load_runtime()
    first = run(runtime, make_frame(painted))
    kept = {name: getattr(first, name).copy() for name in PICTURES}
    run(runtime, make_frame(255 - painted))
    runtime.close()
    for name in PICTURES:
        np.testing.assert_array_equal(getattr(first, name), kept[name])


def test_the_frames_own_bytes_may_change_once_it_is_submitted(
    runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    expected = run(runtime, make_frame(painted))
    pixels = painted.copy()
    runtime.submit(0, make_frame(pixels), EVERYTHING)
    pixels[:] = 0
    assert_equal(runtime.collect(0), expected)


def test_a_file_is_decoded_and_taken_as_bgr8(runtime: CudaRuntime, painted: Image8, frame: Frame) -> None:
    import cv2

    file = cv2.imencode(".png", painted)[1].tobytes()
    png = Frame(memoryview(file), "png", 0, 0, 0, 0)
    assert_equal(run(runtime, png), run(runtime, frame))


def test_a_single_row_may_claim_any_step(runtime: CudaRuntime) -> None:
    row = Frame(memoryview(bytes(30)), "bgr8", 10, 1, 2**32 - 1, 0)
    assert run(runtime, row).mask.shape == (1, 10)


def test_frames_of_several_cameras_may_be_under_way_together(
    runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    wide, tall = make_frame(np.tile(painted, (1, 3, 1))), make_frame(np.tile(painted, (2, 1, 1))[:101])
    alone = [run(runtime, wide), run(runtime, tall)]
    for _ in range(4):
        runtime.submit(0, wide, EVERYTHING)
        runtime.submit(1, tall, EVERYTHING)
        for slot, expected in enumerate(alone):
            assert_equal(runtime.collect(slot), expected)


# Order.


def test_nothing_waits_and_nothing_is_allocated_inside_a_frame(
    driver: EmulatedDriver, runtime: CudaRuntime, frame: Frame
) -> None:
    for _ in range(3):
        run(runtime, frame)
    calls = calls_of(driver, lambda: runtime.submit(0, frame, EVERYTHING))
    assert not WAITING & set(calls)
    assert not ALLOCATING & set(calls)
    assert calls.count("copy_in") == calls.count("copy_out") == 1


@pytest.mark.parametrize("graphs", [False, True])
def test_not_even_a_frame_that_is_captured_waits(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, frame: Frame, graphs: bool
) -> None:
    runtime = load_runtime(graphs=graphs)
    for _ in range(4):
        assert not WAITING & set(calls_of(driver, lambda: runtime.submit(0, frame, EVERYTHING)))
        runtime.collect(0)


def test_a_frame_is_not_ready_before_its_last_event(driver: EmulatedDriver, runtime: CudaRuntime, frame: Frame) -> None:
    driver.poll_steps = 0  # the device stands still
    assert not runtime.ready(0)
    runtime.submit(0, frame, EVERYTHING)
    while not runtime.ready(0):
        assert driver.pending()
        driver.advance(1)
    assert "copy_out" not in driver.pending()


def test_all_slots_are_under_way_before_the_first_is_done(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, frame: Frame
) -> None:
    driver.poll_steps = 0
    runtime = load_runtime(slots=3)
    for slot in range(3):
        runtime.submit(slot, frame, EVERYTHING)
    assert driver.pending().count("copy_out") == 3


def test_slots_are_used_over_and_over_in_any_order_of_execution(
    runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    frames = [shifted(make_frame, painted, blocks) for blocks in range(6)]
    alone = [run(runtime, frame) for frame in frames]
    for count in range(20):
        if count >= 2:
            assert_equal(runtime.collect(count % 2), alone[(count - 2) % 6])
        runtime.submit(count % 2, frames[count % 6], EVERYTHING)


def test_whoever_is_notified_finds_the_frame_ready(engine: Engine, frame: Frame) -> None:
    driver = EmulatedDriver(free_running=True)
    runtime = CudaRuntime(driver, HostNetwork(engine))
    notified = threading.Event()
    runtime.load(notified.set)
    runtime.submit(0, frame, Outputs())
    assert notified.wait(5)
    assert runtime.ready(0)
    runtime.close()
    assert driver.misuses == []


def test_a_spinning_runtime_is_polled_and_notifies_nobody(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, frame: Frame
) -> None:
    runtime = load_runtime(wait="spin")
    assert runtime.polled
    run(runtime, frame)
    names = [call.name for call in driver.calls]
    assert "launch_host" not in names
    runtime.submit(0, frame, Outputs())
    while not runtime.ready(0):
        pass


def test_the_tensors_are_bound_once(runtime: CudaRuntime, network: HostNetwork, frame: Frame) -> None:
    for slot in (0, 1, 0, 1):
        run(runtime, frame, slot=slot)
    assert len(network.bound) == 1


# Graphs.


def test_a_kind_of_frame_is_captured_at_its_second_time_and_launched_from_the_third_on(
    driver: EmulatedDriver, runtime: CudaRuntime, frame: Frame
) -> None:
    calls = [calls_of(driver, lambda: run(runtime, frame)) for _ in range(4)]
    assert [names.count("begin_capture") for names in calls] == [0, 1, 0, 0]
    assert [names.count("launch_graph") for names in calls] == [0, 1, 1, 1]
    assert [names.count("launch") for names in calls] == [2, 4, 0, 0], "plainly, both ways, by the graph alone"
    assert runtime.device.endswith("CUDA graphs")


def test_a_graph_gives_what_the_plain_way_gives(
    load_runtime: RuntimeLoader, engine: Engine, make_frame: FrameMaker, painted: Image8
) -> None:
    runtime = load_runtime()
    plain = load_runtime(driver=EmulatedDriver(), network=HostNetwork(engine), graphs=False)
    for blocks in range(5):
        frame = shifted(make_frame, painted, blocks)
        assert_equal(run(runtime, frame), run(plain, frame))


def test_other_outputs_and_other_cameras_take_their_own_graphs_without_another_capture(
    driver: EmulatedDriver, runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    kinds = [(make_frame(image), outputs) for image in (painted, painted[:40]) for outputs in (Outputs(), EVERYTHING)]

    def in_turn(rounds: int) -> None:
        for frame, outputs in kinds * rounds:
            run(runtime, frame, outputs)

    in_turn(3)  # buffers grow, graphs are captured
    calls = calls_of(driver, lambda: in_turn(2))
    assert calls.count("begin_capture") == calls.count("launch") == 0
    assert calls.count("launch_graph") == 2 * len(kinds)


def test_transparency_threshold_and_classes_change_without_another_capture(
    driver: EmulatedDriver, runtime: CudaRuntime, engine: Engine, frame: Frame
) -> None:
    classes = engine.manifest.classes
    inverted = replace(classes, palette=tuple((255 - r, 255 - g, 255 - b) for r, g, b in classes.palette))
    relabeling = Relabeling(bytes(range(255, -1, -1)), inverted)
    changed = replace(EVERYTHING, overlay_alpha=0.25, confidence_threshold=0.9, relabeling=relabeling)
    with_threshold = replace(EVERYTHING, confidence_threshold=0.1)
    plain = run(runtime, frame, with_threshold)
    for _ in range(2):
        run(runtime, frame, with_threshold)
    results = []
    calls = calls_of(driver, lambda: results.append(run(runtime, frame, changed)))
    assert calls.count("begin_capture") == calls.count("launch") == 0
    (result,) = results
    expected = 255 - plain.mask
    expected[result.confidence < 255 * 0.9] = 255
    np.testing.assert_array_equal(result.mask, expected)
    np.testing.assert_array_equal(result.color_mask, inverted.color_table()[:, ::-1][result.mask])
    assert not np.array_equal(result.overlay, plain.overlay)


def test_a_network_that_cannot_be_captured_is_launched_plainly_for_good_and_the_device_says_so(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, engine: Engine, make_frame: FrameMaker, painted: Image8
) -> None:
    runtime = load_runtime(network=HostNetwork(engine, capturable=False))
    frames = [make_frame(painted), make_frame(painted[:32])]
    expected = [run(runtime, frame) for frame in frames]

    def again() -> None:
        for frame, result in zip(frames, expected, strict=True):
            assert_equal(run(runtime, frame), result)

    calls = calls_of(driver, lambda: (again(), again()))
    assert calls.count("begin_capture") == 1
    assert calls.count("launch_graph") == 0
    assert "no CUDA graphs: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in runtime.device


@pytest.mark.parametrize("call", ["begin_capture", "end_capture", "launch_graph", "alloc_host", "copy_out"])
def test_whatever_is_refused_of_a_graph_the_frame_is_computed(
    driver: EmulatedDriver, runtime: CudaRuntime, frame: Frame, call: str
) -> None:
    expected = run(runtime, frame)
    driver.refuse(call)
    for _ in range(3):
        assert_equal(run(runtime, frame), expected)
    assert f"no CUDA graphs: CUDA_ERROR_UNKNOWN: the test refuses {call}" in runtime.device


class WrongInGraphs(HostNetwork):
    """What is captured of it gives other logits."""

    def enqueue(self, stream: int) -> None:
        assert self._driver is not None
        names = [call.name for call in self._driver.calls]
        if names.count("begin_capture") > names.count("end_capture"):
            (source, target), (read, written) = self.bound[-1], self._sizes
            driver = self._driver
            driver.enqueue(
                stream,
                lambda: driver.view(target, written).fill(0),
                reads=[(source, source + read)],
                writes=[(target, target + written)],
            )
        else:
            super().enqueue(stream)


def test_a_graph_that_gives_something_else_is_never_published_and_never_used_again(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, engine: Engine, frame: Frame
) -> None:
    runtime = load_runtime(network=WrongInGraphs(engine))
    expected = run(runtime, frame)
    assert_equal(run(runtime, frame), expected)
    calls = calls_of(driver, lambda: assert_equal(run(runtime, frame), expected))
    assert calls.count("launch_graph") == 0
    assert "no CUDA graphs: a graph's result differed" in runtime.device


def test_graphs_may_be_switched_off(driver: EmulatedDriver, load_runtime: RuntimeLoader, frame: Frame) -> None:
    runtime = load_runtime(graphs=False)
    for _ in range(3):
        run(runtime, frame)
    assert "begin_capture" not in [call.name for call in driver.calls]
    assert runtime.device.endswith("CUDA graphs off")


def test_the_least_recently_used_graphs_make_room(
    driver: EmulatedDriver, runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    for height in range(2, 40):
        for _ in range(2):
            run(runtime, make_frame(painted[:height]), Outputs())
    names = [call.name for call in driver.calls]
    assert names.count("end_capture") - names.count("destroy_graph") == 16


# Memory.


def test_a_larger_image_gets_larger_buffers_and_a_smaller_one_keeps_them(
    driver: EmulatedDriver, runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    small, large = make_frame(painted), make_frame(np.tile(painted, (3, 2, 1)))
    expected = run(runtime, small)
    assert "alloc" in calls_of(driver, lambda: run(runtime, large))
    for _ in range(3):
        assert "alloc" not in calls_of(driver, lambda: assert_equal(run(runtime, small), expected))


def test_buffers_grow_while_another_slot_is_under_way(
    runtime: CudaRuntime, make_frame: FrameMaker, painted: Image8
) -> None:
    small, large = make_frame(painted), make_frame(np.tile(painted, (3, 2, 1)))
    expected = run(runtime, small)
    for _ in range(3):
        runtime.submit(0, small, EVERYTHING)
        run(runtime, large, slot=1)
        assert_equal(runtime.collect(0), expected)


def test_mapped_memory_takes_the_place_of_copies(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, engine: Engine, make_frame: FrameMaker, painted: Image8
) -> None:
    runtime = load_runtime(mapped="on")
    copied = load_runtime(driver=EmulatedDriver(), network=HostNetwork(engine))
    for blocks in range(4):
        frame = shifted(make_frame, painted, blocks)
        assert_equal(run(runtime, frame), run(copied, frame))
    calls = calls_of(driver, lambda: run(runtime, frame))
    assert {"copy_in", "copy_out"}.isdisjoint(calls)
    assert "launch_graph" in calls
    assert "mapped memory" in runtime.device


@pytest.mark.parametrize("fast", ["mapped memory", "copies"])
def test_a_gpu_that_shares_the_hosts_memory_takes_what_is_faster_there(
    load_runtime: RuntimeLoader, monkeypatch: pytest.MonkeyPatch, frame: Frame, fast: str
) -> None:
    driver = EmulatedDriver(integrated=True)
    elapsed_ms = driver.elapsed_ms
    copies_cost = 100 if fast == "mapped memory" else -100

    def elapsed(start: int, end: int) -> float:
        mapped = any(call.arguments[-1:] == (True,) for call in driver.calls if call.name == "alloc_host")
        return elapsed_ms(start, end) + (0 if mapped else copies_cost)

    monkeypatch.setattr(driver, "elapsed_ms", elapsed)
    runtime = load_runtime(driver=driver)
    assert f"{fast} (" in runtime.device
    uses_copies = "copy_in" in calls_of(driver, lambda: run(runtime, frame))
    assert uses_copies == (fast == "copies")


def test_other_gpus_are_not_probed(runtime: CudaRuntime, driver: EmulatedDriver) -> None:
    assert not any(call.arguments[-1:] == (True,) for call in driver.calls if call.name == "alloc_host")
    assert ", copies, " in runtime.device


# Errors. That nothing is left is what the driver checks when it is closed, and each test closes it.


@pytest.mark.parametrize(
    "bad",
    [{"encoding": "mono16"}, {"width": 0}, {"step": 10}, {"data": memoryview(bytes(10))}, {"encoding": "png"}],
    ids=str,
)
def test_a_frame_that_cannot_be_used_leaves_the_slot_free(
    driver: EmulatedDriver, runtime: CudaRuntime, frame: Frame, bad: dict[str, object]
) -> None:
    expected = run(runtime, frame)

    def submit() -> None:
        with pytest.raises(FrameError):
            runtime.submit(0, replace(frame, **bad), EVERYTHING)

    assert calls_of(driver, submit) == []
    assert not runtime.ready(0)
    assert_equal(run(runtime, frame), expected)


@pytest.mark.parametrize(("integrated", "every"), [(False, 1), (True, 7)])
def test_whatever_load_is_refused_nothing_is_left_and_loading_again_works(
    engine: Engine, frame: Frame, integrated: bool, every: int
) -> None:
    def make(driver: EmulatedDriver) -> CudaRuntime:
        return CudaRuntime(driver, HostNetwork(engine), options=CudaOptions(graphs=False))

    driver = EmulatedDriver(integrated=integrated)
    runtime = make(driver)
    names = calls_of(driver, lambda: runtime.load(lambda: None))
    runtime.close()
    refusals = [(name, names[:index].count(name)) for index, name in enumerate(names) if name not in GIVING_BACK]
    for name, after in refusals[2::every]:  # open has an error of its own, and load_module another way
        driver = EmulatedDriver(integrated=integrated)
        driver.refuse(name, after=after)
        with pytest.raises(DeviceError, match=f"refuses {name}"):
            make(driver).load(lambda: None)
        runtime = make(driver)
        runtime.load(lambda: None)
        run(runtime, frame)
        runtime.close()
        assert driver.misuses == []


def test_whichever_call_finds_the_device_lost_the_runtime_fails_and_closes_and_a_new_one_works(
    engine: Engine, frame: Frame
) -> None:
    def run_frames(runtime: CudaRuntime) -> None:
        runtime.load(lambda: None)
        for _ in range(3):
            runtime.submit(0, frame, EVERYTHING)
            runtime.submit(1, frame, Outputs())
            runtime.ready(0)
            runtime.collect(0)
            runtime.collect(1)

    driver = EmulatedDriver()
    runtime = CudaRuntime(driver, HostNetwork(engine))
    calls = calls_of(driver, lambda: run_frames(runtime))
    runtime.close()
    for lost_at in range(2, len(calls), 7):  # from the call after load_module on, which has another way
        driver = EmulatedDriver()
        driver.lose_device(after=lost_at - 1)
        runtime = CudaRuntime(driver, HostNetwork(engine))
        with pytest.raises(DeviceError, match="lost"):
            run_frames(runtime)
        runtime.close()
        runtime = CudaRuntime(driver, HostNetwork(engine))
        run_frames(runtime)
        runtime.close()
        assert [call.name for call in driver.calls].count("close") == 2, "once each, in the thread that opened it"
        assert driver.misuses == []


def test_an_engine_that_does_not_fit_leaves_nothing_open(driver: EmulatedDriver, engine: Engine) -> None:
    class Unfit(HostNetwork):
        def load(self, *_: object) -> None:
            raise EngineError("built for another machine")

    with pytest.raises(EngineError, match="another machine"):
        CudaRuntime(driver, Unfit(engine)).load(lambda: None)
    assert driver.calls[-1].name == "close"


def test_a_device_that_is_not_there_is_told(driver: EmulatedDriver, engine: Engine) -> None:
    with pytest.raises(RuntimeUnavailableError, match="no CUDA device 3"):
        CudaRuntime(driver, HostNetwork(engine), options=CudaOptions(device=3)).load(lambda: None)


def test_closing_waits_for_what_is_under_way_and_closes_the_driver_once(
    driver: EmulatedDriver, load_runtime: RuntimeLoader, frame: Frame
) -> None:
    runtime = load_runtime()
    for slot in (0, 1):
        runtime.submit(slot, frame, EVERYTHING)
    runtime.close()
    runtime.close()
    assert [call.name for call in driver.calls].count("close") == 1


def test_a_runtime_that_was_never_loaded_can_be_closed(driver: EmulatedDriver, engine: Engine) -> None:
    CudaRuntime(driver, HostNetwork(engine)).close()
    assert driver.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"wait": "sleep"}, "wait is 'sleep'; expected one of block, spin"), ({"mapped": "yes"}, "mapped is 'yes'")],
)
def test_an_unknown_option_is_refused_with_those_there_are(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CudaOptions(**options)  # type: ignore[arg-type]


def test_no_slots_are_refused(driver: EmulatedDriver, engine: Engine) -> None:
    with pytest.raises(ValueError, match="slots is 0"):
        CudaRuntime(driver, HostNetwork(engine), 0)
