"""Engines on ONNX Runtime: the portable fallback."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from eseg_ros.engine.manifest import Engine
from eseg_ros.errors import DeviceError, EngineError
from eseg_ros.runtime.cpu import CpuRuntime, check_precision, check_tensor, input_shape, output_shape


class OnnxRuntimeRuntime(CpuRuntime):
    """One session; a thread of its own runs the slots in turn, each bound to this runtime's arrays once."""

    name = "onnxruntime"
    _session: Any = None
    _executor: ThreadPoolExecutor | None = None

    def _open(self, engine: Engine, threads: int) -> None:
        import onnxruntime

        check_precision(engine, self.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; the rest is advice to its developers
        try:
            session = onnxruntime.InferenceSession(str(engine.onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"ONNX Runtime cannot read {engine.onnx}: {error}; export the engine again") from error
        for kind, port, expected in (
            ("input", session.get_inputs()[0], (engine.manifest.input.name, input_shape(engine.manifest))),
            ("output", session.get_outputs()[0], (engine.manifest.output.name, output_shape(engine.manifest))),
        ):
            check_tensor(engine, kind, (port.name, tuple(port.shape)), expected)
        self._session = session
        self._bindings = [self._binding(session, slot) for slot in range(self.slots)]
        self._futures: list[Future[float] | None] = [None] * self.slots
        self._executor = ThreadPoolExecutor(1, "onnxruntime")
        used = f"{threads} threads" if threads else "all cores"
        self.device = f"CPU, {used}, ONNX Runtime {onnxruntime.__version__}"

    def _binding(self, session: Any, slot: int) -> Any:
        import onnxruntime

        binding = session.io_binding()
        for bind, name, array in (
            (binding.bind_ortvalue_input, self.manifest.input.name, self.inputs[slot]),
            (binding.bind_ortvalue_output, self.manifest.output.name, self.logits[slot]),
        ):
            bind(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding

    def _start(self, slot: int) -> None:
        assert self._executor is not None, "the engine is not loaded"
        self._futures[slot] = self._executor.submit(self._run, slot)

    def _run(self, slot: int) -> float:
        start_ns = time.perf_counter_ns()
        try:
            self._session.run_with_iobinding(self._bindings[slot])
            return (time.perf_counter_ns() - start_ns) / 1e6
        finally:
            self._finished(slot)

    def _wait(self, slot: int) -> float:
        future = self._futures[slot]
        assert future is not None, "wait for a slot that nothing was started in"
        try:
            return future.result()
        except Exception as error:  # its exceptions share no base class of their own
            raise DeviceError(f"ONNX Runtime's inference failed: {error}") from error

    def _close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
            self._session = None
            self._bindings = []
