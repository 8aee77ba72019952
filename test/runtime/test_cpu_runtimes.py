"""OpenVINO and ONNX Runtime behind one interface: the same masks, the same refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from eseg_ros.engine.half import to_half
from eseg_ros.engine.manifest import Engine, load_engine, sha256_of, write_manifest
from eseg_ros.errors import DeviceError, EngineError, FrameError
from eseg_ros.runtime.cpu import CpuRuntime
from eseg_ros.runtime.openvino_runtime import arithmetic
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs, Runtime

FrameMaker = Callable[..., Frame]
KINDS = ("openvino", "onnxruntime")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def runtime(kind: str, engine: Engine) -> Iterator[Runtime]:
    runtime = create_runtime(engine, kind, slots=2, threads=1)
    runtime.load(lambda: None)
    yield runtime
    runtime.close()


def test_the_mask_is_what_was_painted(
    runtime: Runtime, make_frame: FrameMaker, painted: Image8, labels: Image8
) -> None:
    runtime.submit(0, make_frame(painted), Outputs())
    # Between two blocks' centres logits are interpolated, so compare at the centres.
    np.testing.assert_array_equal(runtime.collect(0).mask[4::8, 4::8], labels[4::8, 4::8])


def test_stamp_and_frame_id_are_the_frames(runtime: Runtime, make_frame: FrameMaker, painted: Image8) -> None:
    runtime.submit(0, make_frame(painted, 1234, "front"), Outputs())
    result = runtime.collect(0)
    assert (result.stamp_ns, result.frame_id) == (1234, "front")


def test_slots_do_not_share_buffers(runtime: Runtime, make_frame: FrameMaker, painted: Image8, labels: Image8) -> None:
    runtime.submit(0, make_frame(painted), Outputs())
    runtime.submit(1, make_frame(painted[:, ::-1]), Outputs())
    np.testing.assert_array_equal(runtime.collect(0).mask[4::8, 4::8], labels[4::8, 4::8])
    np.testing.assert_array_equal(runtime.collect(1).mask[4::8, 4::8], labels[:, ::-1][4::8, 4::8])


def test_a_result_outlives_its_slot(runtime: Runtime, make_frame: FrameMaker, painted: Image8) -> None:
    everything = Outputs(color_mask=True, overlay=True, confidence=True)
    runtime.submit(0, make_frame(painted), everything)
    result = runtime.collect(0)
    kept = [result.mask.copy(), result.color_mask.copy(), result.overlay.copy(), result.confidence.copy()]
    runtime.submit(0, make_frame(255 - painted), everything)
    runtime.collect(0)
    for array, copy in zip((result.mask, result.color_mask, result.overlay, result.confidence), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_mask_has_the_cameras_size(runtime: Runtime, make_frame: FrameMaker) -> None:
    runtime.submit(0, make_frame(np.zeros((31, 77, 3), np.uint8)), Outputs())
    assert runtime.collect(0).mask.shape == (31, 77)


def test_notify_comes_when_the_slot_is_ready(
    kind: str, engine: Engine, make_frame: FrameMaker, painted: Image8
) -> None:
    ready = threading.Event()
    runtime = create_runtime(engine, kind)
    runtime.load(ready.set)
    assert not ready.is_set(), "the warm-up is nobody's frame"
    assert not runtime.ready(0)
    runtime.submit(0, make_frame(painted), Outputs())
    assert ready.wait(5)
    assert runtime.ready(0)
    runtime.close()


def test_a_refused_frame_leaves_the_slot_free(runtime: Runtime, make_frame: FrameMaker, painted: Image8) -> None:
    with pytest.raises(FrameError):
        runtime.submit(0, replace(make_frame(painted), step=1), Outputs())
    assert not runtime.ready(0)
    runtime.submit(0, make_frame(painted), Outputs())
    runtime.collect(0)


def test_stages_are_timed(runtime: Runtime, make_frame: FrameMaker, painted: Image8) -> None:
    runtime.submit(0, make_frame(painted), Outputs())
    timings = runtime.collect(0).timings
    assert min(timings.preprocess_ms, timings.inference_ms, timings.postprocess_ms) > 0


def test_the_device_is_told_in_words(runtime: Runtime, kind: str) -> None:
    assert runtime.name == kind
    assert "CPU" in runtime.device
    assert "1 threads" in runtime.device


def test_close_may_come_twice_and_before_load(kind: str, engine: Engine) -> None:
    runtime = create_runtime(engine, kind)
    runtime.close()
    runtime.load(lambda: None)
    runtime.close()
    runtime.close()


def test_close_waits_for_what_is_under_way(runtime: Runtime, make_frame: FrameMaker, painted: Image8) -> None:
    runtime.submit(0, make_frame(painted), Outputs())
    runtime.submit(1, make_frame(painted), Outputs())
    runtime.close()


def test_both_libraries_give_the_same_mask(engine: Engine, make_frame: FrameMaker) -> None:
    for kind in KINDS:
        pytest.importorskip(kind)
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    masks = []
    for kind in KINDS:
        runtime = create_runtime(engine, kind)
        runtime.load(lambda: None)
        runtime.submit(0, make_frame(noise), Outputs())
        masks.append(runtime.collect(0).mask)
        runtime.close()
    assert (masks[0] == masks[1]).mean() > 0.999


def test_letterbox_gives_a_mask_of_the_image_alone(
    kind: str, make_tiny_engine: Callable[..., Path], make_frame: FrameMaker, painted: Image8, labels: Image8
) -> None:
    runtime = create_runtime(load_engine(make_tiny_engine(resize="letterbox", width=96, height=128)), kind)
    runtime.load(lambda: None)
    runtime.submit(0, make_frame(painted), Outputs())
    np.testing.assert_array_equal(runtime.collect(0).mask[4::8, 4::8], labels[4::8, 4::8])
    runtime.close()


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("input", {"name": "picture"}, ("picture", "image")),
        ("input", {"width": 128}, ("[1, 3, 64, 128]", "[1, 3, 64, 96]")),
        ("output", {"name": "scores"}, ("scores", "logits")),
        ("output", {"width": 24}, ("[1, 11, 8, 24]", "[1, 11, 8, 12]")),
    ],
    ids=["input name", "input size", "output name", "output size"],
)
def test_a_model_that_does_not_fit_its_manifest_is_refused_with_both(
    kind: str, engine: Engine, part: str, change: dict[str, object], told: tuple[str, str]
) -> None:
    manifest = replace(engine.manifest, **{part: replace(getattr(engine.manifest, part), **change)})
    runtime = create_runtime(replace(engine, manifest=manifest), kind)
    with pytest.raises(EngineError) as caught:
        runtime.load(lambda: None)
    assert all(words in str(caught.value) for words in told)


def test_a_corrupt_model_is_refused(kind: str, engine: Engine, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(engine.onnx.read_bytes()[:-100])
    runtime = create_runtime(replace(engine, onnx=corrupt), kind)
    with pytest.raises(EngineError, match=r"corrupt\.onnx"):
        runtime.load(lambda: None)
    runtime.close()


@pytest.fixture
def half_engine(tiny_engine: Path, tmp_path: Path) -> Engine:
    """The tiny engine in half precision, with half input and logits."""
    return load_engine(write_half_engine(tiny_engine, tmp_path))


def write_half_engine(source: Path, folder: Path) -> Path:
    manifest = load_engine(source).manifest
    model = to_half(onnx.load(load_engine(source).onnx), islands=())
    onnx.save(model, folder / "half.onnx")
    half = replace(
        manifest,
        name="half",
        input=replace(manifest.input, dtype="float16"),
        output=replace(manifest.output, dtype="float16"),
        precision="fp16",
        onnx_file="half.onnx",
        onnx_sha256=sha256_of(folder / "half.onnx"),
    )
    return write_manifest(half, folder)


def test_an_engine_with_half_tensors_gives_the_mask_that_was_painted(
    kind: str, half_engine: Engine, make_frame: FrameMaker, painted: Image8, labels: Image8
) -> None:
    runtime = create_runtime(half_engine, kind)
    runtime.load(lambda: None)
    runtime.submit(0, make_frame(painted), Outputs())
    np.testing.assert_array_equal(runtime.collect(0).mask[4::8, 4::8], labels[4::8, 4::8])
    runtime.close()


def test_letterbox_bars_of_a_half_input_are_the_mean_color_again_for_every_frame(
    kind: str, make_tiny_engine: Callable[..., Path], make_frame: FrameMaker, painted: Image8, tmp_path: Path
) -> None:
    tall = write_half_engine(make_tiny_engine(resize="letterbox", width=96, height=128), tmp_path)
    runtime = create_runtime(load_engine(tall), kind, slots=1)
    runtime.load(lambda: None)
    runtime.submit(0, make_frame(np.full((192, 96, 3), 255, np.uint8)), Outputs())
    runtime.collect(0)
    runtime.submit(0, make_frame(painted), Outputs())
    runtime.collect(0)
    assert not runtime.inputs[0][0, :, 0].any()
    runtime.close()


def test_half_tensors_where_the_manifest_says_float_are_refused_with_both(kind: str, half_engine: Engine) -> None:
    wrong = replace(half_engine.manifest, input=replace(half_engine.manifest.input, dtype="float32"))
    runtime = create_runtime(replace(half_engine, manifest=wrong), kind)
    with pytest.raises(EngineError, match=r"'image' float16 .*manifest says 'image' float32"):
        runtime.load(lambda: None)


def test_openvino_computes_in_float32_on_every_processor(engine: Engine) -> None:
    assert arithmetic_of(engine) == "float32"


def test_openvino_computes_an_int8_engines_other_layers_in_float32(engine: Engine) -> None:
    assert arithmetic_of(replace(engine, manifest=replace(engine.manifest, precision="int8"))) == "float32"


def test_openvino_computes_an_fp16_engine_in_half_where_the_processor_does_and_never_in_bfloat16(
    half_engine: Engine,
) -> None:
    openvino = pytest.importorskip("openvino")
    has_half = "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert arithmetic_of(half_engine) == ("float16" if has_half else "float32")


def arithmetic_of(engine: Engine) -> str:
    """The type that OpenVINO computes the engine in, "float32"."""
    pytest.importorskip("openvino")
    runtime = create_runtime(engine, "openvino")
    runtime.load(lambda: None)
    hint = runtime._requests[0].get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
    runtime.close()
    return str(hint.to_dtype())


@pytest.mark.parametrize(
    ("precision", "capabilities", "hint"),
    [
        ("fp16", ["FP32", "FP16"], "f16"),
        ("fp16", ["FP32", "BF16"], "f32"),
        ("fp32", ["FP32", "FP16", "BF16"], "f32"),
        ("int8", ["FP32", "FP16", "INT8"], "f32"),
    ],
)
def test_the_arithmetic_follows_from_precision_and_processor(
    precision: str, capabilities: list[str], hint: str
) -> None:
    assert arithmetic(precision, capabilities) == hint


class FailingRuntime(CpuRuntime):
    """Runs its warm-up; then the library fails."""

    name = "failing"
    runs = 0

    def _open(self, onnx: Path, threads: int) -> None:
        pass

    def _run(self, slot: int) -> None:
        self.runs += 1
        if self.runs > self.slots:
            raise RuntimeError("out of memory")

    def _close(self) -> None:
        pass


def test_a_failed_inference_wakes_the_waiting_thread_and_tells_the_reason(
    engine: Engine, make_frame: FrameMaker, painted: Image8
) -> None:
    woken = threading.Event()
    runtime = FailingRuntime(engine)
    runtime.load(woken.set)
    runtime.submit(0, make_frame(painted), Outputs())
    assert woken.wait(5)
    assert runtime.ready(0)
    with pytest.raises(DeviceError, match="out of memory"):
        runtime.collect(0)
    runtime.close()


@pytest.mark.parametrize("numbers", [{"slots": 0}, {"threads": -1}])
def test_impossible_numbers_are_refused(kind: str, engine: Engine, numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected slots >= 1"):
        create_runtime(engine, kind, **numbers)
