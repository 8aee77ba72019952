"""What `eseg bench` runs beside the node's runtimes: OpenVINO in bfloat16, and any ONNX file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from eseg_ros.errors import DeviceError, EngineError, RuntimeUnavailableError
from eseg_ros.runtime.openvino_runtime import OpenVinoRuntime

Tensor32 = npt.NDArray[np.float32]


class Bfloat16Runtime(OpenVinoRuntime):
    """An fp32 engine in OpenVINO's bfloat16 arithmetic.

    The node does not have it: an engine must give the same masks on every machine. It is timed, and scored, to show
    what that costs and saves on processors that can.
    """

    def _open(self, onnx: Path, threads: int) -> None:
        import openvino

        compiled, self.device = _compile(onnx, "bf16", threads)
        self._requests = tuple(self._request(openvino, compiled, slot) for slot in range(self.slots))


class Inference(Protocol):
    """One inference of an ONNX file, always on the same image.

    Attributes:
        device: the library and what it runs on, in words.
    """

    device: str

    def run(self) -> None:
        """Infer once."""

    def outputs(self) -> list[npt.NDArray[Any]]:
        """What the last `run` gave, an array an output."""


def open_inference(onnx: Path, runtime: str, image: Tensor32, *, bf16: bool = False, threads: int = 0) -> Inference:
    """Load an ONNX file with the node's settings.

    Args:
        onnx: a file with one input, of the image's shape.
        runtime: "openvino" or "onnxruntime".
        image: (1, 3, H, W).
        bf16: OpenVINO's bfloat16 arithmetic in place of float32.
        threads: of the library, 0 = its own choice.

    Raises:
        EngineError: the library cannot read the file.
        RuntimeUnavailableError: the processor has no bfloat16.
    """
    if runtime == "openvino":
        return _OpenVinoInference(onnx, image, "bf16" if bf16 else "f32", threads)
    return _OnnxRuntimeInference(onnx, image, threads)


class _OpenVinoInference:
    def __init__(self, onnx: Path, image: Tensor32, precision: str, threads: int) -> None:
        import openvino

        compiled, self.device = _compile(onnx, precision, threads)
        self._count = len(compiled.outputs)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
        self._image = image  # which the tensor does not keep

    def run(self) -> None:
        self._request.infer(share_outputs=True)

    def outputs(self) -> list[npt.NDArray[Any]]:
        return [self._request.get_output_tensor(index).data for index in range(self._count)]


class _OnnxRuntimeInference:
    def __init__(self, onnx: Path, image: Tensor32, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; the rest is advice to its developers
        try:
            self._session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise EngineError(f"ONNX Runtime cannot read {onnx}: {error}") from error
        self._binding = self._session.io_binding()
        (tensor,) = self._session.get_inputs()
        self._binding.bind_cpu_input(tensor.name, image)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name)
        used = f"{threads} threads" if threads else "all cores"
        self.device = f"CPU, {used}, ONNX Runtime {onnxruntime.__version__}"

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> list[npt.NDArray[Any]]:
        return list(self._binding.copy_outputs_to_cpu())


def _compile(onnx: Path, precision: str, threads: int) -> tuple[Any, str]:
    """A file compiled by OpenVINO for one frame at a time, as the node's runtime does, and its device in words.

    Args:
        onnx: the file.
        precision: "f32" or "bf16".
        threads: 0 = OpenVINO's choice.
    """
    import openvino

    core = openvino.Core()
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeUnavailableError(f"{processor} does not compute in bfloat16; leave --bf16 away")
    try:
        model = core.read_model(onnx)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot read {onnx}: {error}") from error
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    try:
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise DeviceError(f"OpenVINO cannot compile {onnx} for this CPU: {error}") from error
    used = compiled.get_property("INFERENCE_NUM_THREADS")
    return compiled, f"CPU ({processor}), {used} threads, OpenVINO {openvino.__version__.partition('-')[0]}"
