"""Engines on OpenVINO: the first choice on a CPU."""

from __future__ import annotations

import os
from typing import Any

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError, EngineError
from eseg_ros.runtime.cpu import CpuRuntime, check_precision, check_tensor, input_shape, output_shape


class OpenVinoRuntime(CpuRuntime):
    """One asynchronous inference request a slot, over this runtime's own arrays.

    The precision is the manifest's, always: left alone, OpenVINO computes in bfloat16 on processors that have it.
    """

    name = "openvino"
    _model: Any = None
    _requests: tuple[Any, ...] = ()

    def _open(self, engine: Engine, threads: int) -> None:
        import openvino

        check_precision(engine, self.name)
        core = openvino.Core()
        try:
            model = core.read_model(engine.onnx)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read {engine.onnx}: {error}; export the engine again") from error
        for kind, port, expected in (
            ("input", model.inputs[0], (engine.manifest.input.name, input_shape(engine.manifest))),
            ("output", model.outputs[0], (engine.manifest.output.name, output_shape(engine.manifest))),
        ):
            shape = port.partial_shape
            found = tuple(shape.to_shape()) if shape.is_static else (str(shape),)
            check_tensor(engine, kind, (port.any_name, found), expected)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = core.compile_model(model, "CPU", settings)
            self._requests = tuple(self._request(openvino, slot) for slot in range(self.slots))
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot compile {engine.onnx} for the CPU: {error}") from error
        processor = self._model.get_property("EXECUTION_DEVICES")
        full_name = core.get_property("CPU", "FULL_DEVICE_NAME")
        used = threads or self._model.get_property("INFERENCE_NUM_THREADS") or os.cpu_count()
        self.device = f"{', '.join(processor)} ({full_name}), {used} threads, OpenVINO {openvino.__version__}"

    def _request(self, openvino: Any, slot: int) -> Any:
        request = self._model.create_infer_request()
        request.set_input_tensor(openvino.Tensor(self.inputs[slot], shared_memory=True))
        request.set_output_tensor(openvino.Tensor(self.logits[slot], shared_memory=True))
        request.set_callback(lambda _: self._finished(slot), None)
        return request

    def _start(self, slot: int) -> None:
        try:
            self._requests[slot].start_async()
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO could not start an inference: {error}") from error

    def _wait(self, slot: int) -> float:
        try:
            self._requests[slot].wait()
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO's inference failed: {error}") from error
        return float(self._requests[slot].latency)

    def _close(self) -> None:
        for request in self._requests:
            request.wait()
        self._requests = ()
        self._model = None
