"""Engines on OpenVINO: the first choice on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eseg_ros.errors import DeviceError, EngineError
from eseg_ros.runtime.cpu import CpuRuntime
from eseg_ros.runtime.tensors import TensorInfo


class OpenVinoRuntime(CpuRuntime):
    """One inference request a slot, over this runtime's own arrays.

    The arithmetic follows from the manifest's precision, always: left alone, OpenVINO computes in bfloat16 on
    processors that have it.
    """

    name = "openvino"
    _requests: tuple[Any, ...] = ()

    def _open(self, onnx: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(onnx)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read {onnx}: {error}. Export the engine again: eseg export") from error
        self._check_tensors(
            [_tensor_info(port) for port in model.inputs], [_tensor_info(port) for port in model.outputs]
        )
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": arithmetic(self.manifest.precision, capabilities),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            compiled = core.compile_model(model, "CPU", settings)
            self._requests = tuple(self._request(openvino, compiled, slot) for slot in range(self.slots))
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot compile {onnx} for this CPU: {error}") from error
        processor = core.get_property("CPU", "FULL_DEVICE_NAME")
        used = compiled.get_property("INFERENCE_NUM_THREADS")
        self.device = f"CPU ({processor}), {used} threads, OpenVINO {openvino.__version__.partition('-')[0]}"

    def _request(self, openvino: Any, compiled: Any, slot: int) -> Any:
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(self.inputs[slot], shared_memory=True))
        request.set_output_tensor(openvino.Tensor(self.logits[slot], shared_memory=True))
        return request

    def _run(self, slot: int) -> None:
        self._requests[slot].infer(share_outputs=True)  # the result is in `logits`; a copy of it is not wanted

    def _close(self) -> None:
        self._requests = ()


def arithmetic(precision: str, capabilities: Sequence[str]) -> str:
    """OpenVINO's INFERENCE_PRECISION_HINT for an engine's precision.

    An fp16 engine computes in f16 only where the processor does: asked for f16 elsewhere, OpenVINO may take bfloat16,
    which has three bits less. In an int8 engine the quantised layers are marked in the graph, and run in int8 whatever
    the hint; the others are float32.

    Args:
        precision: the manifest's.
        capabilities: the device's OPTIMIZATION_CAPABILITIES.
    """
    return "f16" if precision == "fp16" and "FP16" in capabilities else "f32"


def _tensor_info(port: Any) -> TensorInfo:
    shape = tuple(int(str(size)) if size.is_static else str(size) for size in port.partial_shape)
    dtype = port.element_type.to_dtype().name
    return TensorInfo(port.any_name, dtype, shape)
