"""An engine on the device by PyTorch in half precision: for tests and benchmarks on a GPU without TensorRT.

No vehicle runs it: the runtime knows no PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from eseg_ros.engine.export import rebuild_network
from eseg_ros.engine.manifest import Engine, EngineManifest, InputSpec, OutputSpec
from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.labels import CITYSCAPES
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.models.zoo import build_deployed
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.tensors import input_shape, output_shape
from eseg_ros.training.config import IMAGENET_MEAN, IMAGENET_STD

Size = tuple[int, int]
"""(width, height), pixels."""


class TorchNetwork:
    """A `DeviceNetwork` whose layers are PyTorch's, in float16 and channels last.

    It works on memory and streams that are not PyTorch's, in the primary context, which both share. What a forward pass
    needs in between comes from a pool of its own, which PyTorch neither returns nor lends out while the network lives:
    a CUDA graph that was captured of it may use that memory at every launch.

    Args:
        network: in the form for inference.
        manifest: of the engine that it stands for; its sizes are the tensors', its dtypes do not count.
    """

    name = "torch"
    description = f"PyTorch {torch.__version__}, fp16"
    input_dtype: np.dtype[np.floating] = np.dtype(np.float16)
    output_dtype: np.dtype[np.floating] = np.dtype(np.float16)

    def __init__(self, network: SegmentationNetwork, manifest: EngineManifest) -> None:
        self.manifest = manifest
        self._source = network
        self._network: SegmentationNetwork | None = None
        self._pool: torch.cuda.MemPool | None = None
        self._device = torch.device("cpu")
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        """See `DeviceNetwork.load`.

        Raises:
            RuntimeUnavailableError: this PyTorch cannot use the GPU.
        """
        if not torch.cuda.is_available():
            raise RuntimeUnavailableError(
                f"PyTorch {torch.__version__} cannot use {info.name}; install one for CUDA: pip install torch"
            )
        with _as_device_errors():
            self._device = torch.device("cuda", torch.cuda.current_device())  # that of the driver's context
            self._pool = torch.cuda.MemPool()
            self._network = self._converted(self._device)
            torch.cuda.synchronize(self._device)

    def bind(self, input_address: int, output_address: int) -> None:
        """See `DeviceNetwork.bind`."""
        with _as_device_errors():
            self._input = self._tensor_at(input_address, input_shape(self.manifest))
            self._output = self._tensor_at(output_address, output_shape(self.manifest))
            self._choose_algorithms()

    def enqueue(self, stream: int) -> None:
        """See `DeviceNetwork.enqueue`."""
        assert self._pool is not None, "the network is not loaded"
        with (
            _as_device_errors(),
            torch.cuda.stream(torch.cuda.get_stream_from_external(stream, self._device)),
            torch.cuda.use_mem_pool(self._pool, self._device),
        ):
            self.infer()

    @torch.inference_mode()
    def infer(self) -> None:
        """One forward pass from the input's tensor to the output's."""
        assert self._network is not None, "the network is not loaded"
        assert self._input is not None, "the network is not bound"
        assert self._output is not None
        self._output.copy_(self._network(self._input.contiguous(memory_format=torch.channels_last)))

    def close(self) -> None:
        """See `DeviceNetwork.close`."""
        used = self._pool is not None
        self._network = self._pool = self._input = self._output = None
        if used:
            with suppress(RuntimeError):  # after a lost device there is nothing to return
                torch.cuda.empty_cache()

    def _choose_algorithms(self) -> None:
        """Have cuDNN time its algorithms, now and outside the pool, which would keep the workspaces of them all."""
        torch.backends.cudnn.benchmark = True
        self.infer()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()

    def _converted(self, device: torch.device) -> SegmentationNetwork:
        network = copy.deepcopy(self._source).eval().to(device, torch.float16)
        for weight in network.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return network

    def _tensor_at(self, address: int, shape: tuple[int, ...]) -> Tensor:
        """A view of device memory; https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html."""
        interface = {"shape": shape, "typestr": "<f2", "data": (address, False), "version": 3}
        return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device=self._device)


def engine_network(engine: Engine, size: Size | None = None) -> TorchNetwork:
    """An engine's own weights, at its own input size or at another one.

    Raises:
        EngineError: the engine is no fp32 or fp16 engine that this package exported.
    """
    network = rebuild_network(engine.manifest, engine.onnx)
    manifest = replace(engine.manifest, precision="fp16")
    if size is not None:
        spec = replace(manifest.input, width=size[0], height=size[1])
        manifest = replace(manifest, input=spec, output=_output_of(spec, network.stride))
    return TorchNetwork(network, manifest)


def zoo_network(model: str, size: Size) -> TorchNetwork:
    """A network of the zoo for Cityscapes' classes, untrained: its time is that of a trained one.

    Raises:
        ValueError: no such model.
    """
    network = build_deployed(model, len(CITYSCAPES))
    spec = InputSpec("image", *size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    manifest = EngineManifest(
        name=model,
        model=model,
        classes=CITYSCAPES,
        input=spec,
        output=_output_of(spec, network.stride),
        precision="fp16",
        onnx_file=f"{model}.onnx",
        onnx_sha256="",
        opset=18,
    )
    return TorchNetwork(network, manifest)


def _output_of(spec: InputSpec, stride: int) -> OutputSpec:
    return OutputSpec("logits", stride=stride, width=-(-spec.width // stride), height=-(-spec.height // stride))


@contextmanager
def _as_device_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the base of PyTorch's errors, out of memory included
        raise DeviceError(f"PyTorch {torch.__version__} failed: {error}") from error
