"""Engines on ONNX Runtime: the portable fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eseg_ros.errors import EngineError
from eseg_ros.runtime.cpu import CpuRuntime
from eseg_ros.runtime.tensors import TensorInfo

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxRuntimeRuntime(CpuRuntime):
    """One session, and for each slot a binding to this runtime's own arrays."""

    name = "onnxruntime"
    _session: Any = None
    _bindings: tuple[Any, ...] = ()

    def _open(self, onnx: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; the rest is advice to its developers
        try:
            session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise EngineError(
                f"ONNX Runtime cannot read {onnx}: {error}. Export the engine again: eseg export"
            ) from error
        self._check_tensors(
            [_tensor_info(port) for port in session.get_inputs()],
            [_tensor_info(port) for port in session.get_outputs()],
        )
        self._session = session
        self._bindings = tuple(self._binding(session, slot) for slot in range(self.slots))
        used = f"{threads} threads" if threads else "all cores"
        self.device = f"CPU, {used}, ONNX Runtime {onnxruntime.__version__}"

    def _binding(self, session: Any, slot: int) -> Any:
        binding = session.io_binding()
        array, logits = self.inputs[slot], self.logits[slot]
        binding.bind_input(self.manifest.input.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_output(self.manifest.output.name, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        return binding

    def _run(self, slot: int) -> None:
        self._session.run_with_iobinding(self._bindings[slot])

    def _close(self) -> None:
        self._bindings = ()
        self._session = None


def _tensor_info(port: Any) -> TensorInfo:
    return TensorInfo(port.name, _DTYPES.get(port.type, port.type), tuple(port.shape))
