"""Preprocess, network and postprocess on the compute stream: launched one by one, or as one CUDA graph."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress

import numpy as np

from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.kernel_module import Kernels
from eseg_ros.runtime.cuda.network import DeviceNetwork
from eseg_ros.runtime.cuda.parameters import BLOCK
from eseg_ros.runtime.cuda.slot import Slot
from eseg_ros.runtime.cuda.variant import Tensors, Variant
from eseg_ros.runtime.tensors import input_shape, output_shape

_log = logging.getLogger(__name__)


class Compute:
    """What runs between a frame's copy-in and its copy-out.

    A variant's first frame is launched piece by piece. With its second one it is captured: the graph runs, its pictures
    are put aside, and the frame is computed the plain way as well, which is what the caller gets. Where both are the
    same, `judge` trusts the graph, and from the third frame on it is all that is launched. Where a capture is refused
    or a graph gives something else, everything is launched piece by piece for good.

    Args:
        driver: an open driver.
        network: a loaded network; it is bound to its tensors here.
        kernels: the two kernels.
        stream: where all of it runs.
        resources: frees what is allocated here.
        graphs: whether to capture at all.

    Attributes:
        tensors: one pair for all frames, because they are computed one after the other.
    """

    def __init__(
        self,
        driver: Driver,
        network: DeviceNetwork,
        kernels: Kernels,
        stream: int,
        resources: ExitStack,
        *,
        graphs: bool,
    ) -> None:
        self._driver = driver
        self._network = network
        self._kernels = kernels
        self._graphs = graphs
        self._refusal = ""
        self.stream = stream
        self.tensors = self._allocate(resources)
        network.bind(self.tensors.input_address, self.tensors.output_address)

    @property
    def mode(self) -> str:
        """How frames are launched, in words."""
        if self._refusal:
            return f"no CUDA graphs: {self._refusal}"
        return "CUDA graphs" if self._graphs else "CUDA graphs off"

    def enqueue(self, slot: Slot, variant: Variant) -> None:
        """Enqueue a frame that lies in the slot's input; its pictures will lie in the slot's output."""
        if self._uses_graphs and variant.runs and not variant.trusted:
            self._try_graph(slot, variant)
        self._driver.record(slot.events.started, self.stream)
        if self._uses_graphs and variant.trusted:
            self._driver.launch_graph(variant.graph, self.stream)
        else:
            self._launch(slot, variant)
        variant.runs += 1

    def judge(self, slot: Slot, variant: Variant) -> None:
        """After a frame is done: trust its graph if it ran for the first time and gave what the plain way gave."""
        if slot.trial is None:
            return
        differing = size = 0
        for picture in variant.pictures.values():
            differing += int(np.count_nonzero(picture.of(slot.trial.array) != picture.of(slot.output.bytes)))
            size += picture.size
        slot.end_trial()
        if differing:
            self._refuse(f"a graph's result differed in {differing} of {size} bytes")
        else:
            variant.trusted = True

    @property
    def _uses_graphs(self) -> bool:
        return self._graphs and not self._refusal

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        _log.warning("frames are launched without CUDA graphs from now on: %s", reason)

    def _launch(self, slot: Slot, variant: Variant) -> None:
        """Enqueue the two kernels and the network, or have them captured."""
        spec = self._network.manifest.input
        height, width = variant.pictures["mask"].shape
        self._launch_kernel(self._kernels.preprocess, spec.width, spec.height, variant.preprocess)
        self._driver.record(slot.events.preprocessed, self.stream)
        self._network.enqueue(self.stream)
        self._driver.record(slot.events.inferred, self.stream)
        self._launch_kernel(self._kernels.postprocess, width, height, variant.postprocess)

    def _launch_kernel(self, kernel: int, width: int, height: int, argument: np.void) -> None:
        """One thread a pixel."""
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]), 1)
        self._driver.launch(kernel, grid, BLOCK, argument, self.stream)

    def _try_graph(self, slot: Slot, variant: Variant) -> None:
        """Capture a graph, run it on the slot's frame and put its pictures aside."""
        try:
            variant.graph = self._capture(slot, variant)
            self._driver.launch_graph(variant.graph, self.stream)
            trial = slot.begin_trial(variant.output_size)
            self._driver.copy_out(trial, slot.output.address, variant.output_size, self.stream)
        except DeviceError as error:  # if it is the device that is lost, what is enqueued next fails, and is not caught
            slot.end_trial()
            self._refuse(str(error))

    def _capture(self, slot: Slot, variant: Variant) -> int:
        self._driver.begin_capture(self.stream)
        try:
            self._launch(slot, variant)
        except BaseException:
            with suppress(DeviceError):  # the stream must leave the capture in any case
                self._driver.destroy_graph(self._driver.end_capture(self.stream))
            raise
        return self._driver.end_capture(self.stream)

    def _allocate(self, resources: ExitStack) -> Tensors:
        manifest = self._network.manifest
        dtypes = self._network.input_dtype, self._network.output_dtype
        addresses = []
        for shape, dtype in zip((input_shape(manifest), output_shape(manifest)), dtypes, strict=True):
            addresses.append(self._driver.alloc(int(np.prod(shape)) * dtype.itemsize))
            resources.callback(self._driver.free, addresses[-1])
        return Tensors(addresses[0], dtypes[0], addresses[1], dtypes[1])
