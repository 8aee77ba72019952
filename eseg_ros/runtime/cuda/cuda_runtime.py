"""The runtime on a GPU: frames on three streams, several under way at once, nothing waits inside a frame.

docs/runtime.md has the picture of a frame's life.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.errors import DeviceError
from eseg_ros.runtime.cuda.compute import Compute
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.cuda.kernel_module import load_kernels
from eseg_ros.runtime.cuda.network import DeviceNetwork
from eseg_ros.runtime.cuda.slot import Events, Job, Slot, Streams
from eseg_ros.runtime.cuda.variant import FrameKind, Variant
from eseg_ros.runtime.image import ImageLayout, decode, is_compressed, layout
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Timings

WAITS = ("block", "spin")
MAPPED = ("auto", "on", "off")
PROBE_RUNS = 5
"""Frames timed each way before mapped memory is chosen or not; the fastest counts."""


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """How the GPU is used.

    Attributes:
        device: which GPU, from 0.
        wait: "block": the thread that waits for a frame sleeps; "spin": it asks all the time, which costs a processor
            core and saves the time of waking up.
        graphs: whether a frame's compute is launched as one CUDA graph.
        mapped: whether the kernels read and write the host's memory in place of copies: "on", "off", or "auto": on a
            GPU that shares the memory of the host, whichever is faster there.
    """

    device: int = 0
    wait: str = "block"
    graphs: bool = True
    mapped: str = "auto"

    def __post_init__(self) -> None:
        for name, value, choices in (("wait", self.wait, WAITS), ("mapped", self.mapped, MAPPED)):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


class CudaRuntime:
    """An engine on a GPU, between the two fused kernels.

    A frame's bytes are copied once, into page-locked memory. From there on the device works alone: copy-in, preprocess,
    network, postprocess and copy-out, joined by events across three streams, so that one frame's copies run beside
    another's kernels. A slot is used again only after its last event.

    A result is copied out of the page-locked memory: whoever gets it may keep it for longer than the slot is free, and
    for longer than the CUDA context lives.

    Args:
        driver: not open yet; it belongs to the runtime from now on.
        network: not loaded yet; it belongs to the runtime from now on.
        slots: frames that may be under way at once.
        options: how the GPU is used.
    """

    def __init__(
        self, driver: Driver, network: DeviceNetwork, slots: int = 2, options: CudaOptions | None = None
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}; expected slots >= 1")
        self.slots = slots
        self._driver = driver
        self._network = network
        self._options = options or CudaOptions()
        self._device = "not loaded"
        self._compute: Compute | None = None
        self._streams: Streams | None = None
        self._idle = 0  # an event for `close`
        self._slots: list[Slot] = []
        self._notify: Callable[[], None] = lambda: None
        self._resources = ExitStack()
        self._resources.enter_context(suppress(DeviceError))  # outermost: every release has its turn all the same

    @property
    def network(self) -> DeviceNetwork:
        """The engine on the device."""
        return self._network

    @property
    def name(self) -> str:
        """The network's name, e.g. "tensorrt"."""
        return self._network.name

    @property
    def device(self) -> str:
        """GPU, library, driver, memory and how frames are launched, in words."""
        compute = self._compute  # another thread may be closing
        return f"{self._device}, {compute.mode}" if compute else self._device

    @property
    def manifest(self) -> EngineManifest:
        """The engine."""
        return self._network.manifest

    @property
    def polled(self) -> bool:
        """Whether `ready` must be asked again and again; see `Runtime.polled`."""
        return self._options.wait == "spin"

    def load(self, notify: Callable[[], None]) -> None:
        """Open the device, load kernels and network, and run every slot once; see `Runtime.load`.

        Raises:
            RuntimeUnavailableError: no such device, no driver for it, or no kernels.
        """
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        self._notify = notify

    def submit(self, slot: int, frame: Frame, outputs: Outputs) -> None:
        """Copy the frame into page-locked memory and enqueue everything else; see `Runtime.submit`."""
        self._submit(self._slots[slot], frame, outputs)

    def ready(self, slot: int) -> bool:
        """Whether the slot's last event has happened."""
        return self._slots[slot].job is not None and self._driver.happened(self._slots[slot].events.done)

    def collect(self, slot: int) -> Result:
        """Wait for the slot's last event and copy the pictures; see `Runtime.collect`."""
        return self._collect(self._slots[slot])

    def close(self) -> None:
        """Wait for what is under way and free everything, in the thread that called `load`; see `Runtime.close`.

        On a lost device it neither waits nor raises: what cannot be freed is gone with the context.
        """
        with suppress(DeviceError):
            self._wait_idle()
        self._slots, self._streams, self._compute = [], None, None
        self._resources.close()

    def _wait_idle(self) -> None:
        """Wait until nothing is under way on any stream."""
        for stream in astuple(self._streams) if self._streams else ():
            self._driver.record(self._idle, stream)
            self._driver.synchronize(self._idle)

    def _load(self) -> None:
        driver, network, resources = self._driver, self._network, self._resources
        info = driver.open(self._options.device)
        resources.callback(driver.close)
        kernels = load_kernels(driver, info)
        resources.callback(driver.unload_module, kernels.module)
        resources.callback(network.close)
        network.load(driver, info)
        self._idle = driver.event(blocking=True)
        resources.callback(driver.destroy_event, self._idle)
        self._streams = Streams(*(self._new_stream() for _ in fields(Streams)))
        self._compute = Compute(driver, network, kernels, self._streams.compute, resources, graphs=self._options.graphs)
        mapped, memory = self._choose_memory(info)
        self._slots = [self._new_slot(resources, mapped=mapped) for _ in range(self.slots)]
        for slot in self._slots:
            self._run_blank(slot)
        capability = ".".join(map(str, info.capability))
        self._device = f"{info.name} (compute capability {capability}), {network.description}, {driver.name}, {memory}"

    def _new_stream(self) -> int:
        stream = self._driver.stream()
        self._resources.callback(self._driver.destroy_stream, stream)
        return stream

    def _new_slot(self, resources: ExitStack, *, mapped: bool) -> Slot:
        """A slot; with mapped memory there is nothing to copy, and its frames stay on the compute stream."""
        assert self._compute is not None
        assert self._streams is not None
        compute = self._streams.compute
        streams = replace(self._streams, copy_in=compute, copy_out=compute) if mapped else self._streams
        blocking = self._options.wait == "block"
        return Slot(
            self._driver, resources, self.manifest, self._compute.tensors, streams, mapped=mapped, blocking=blocking
        )

    def _choose_memory(self, info: DeviceInfo) -> tuple[bool, str]:
        """Whether to use mapped memory, and in words."""
        if self._options.mapped != "auto" or not info.integrated:
            mapped = self._options.mapped == "on"
            return mapped, _memory_name(mapped)
        copied_ms, mapped_ms = self._time_blank(mapped=False), self._time_blank(mapped=True)
        mapped = mapped_ms < copied_ms
        return mapped, f"{_memory_name(mapped)} ({mapped_ms:.2f} ms mapped, {copied_ms:.2f} ms copied)"

    def _time_blank(self, *, mapped: bool) -> float:
        """Milliseconds from the beginning of a blank frame's copy-in to the end of its copy-out, the best of a few."""
        with ExitStack() as resources:
            slot = self._new_slot(resources, mapped=mapped)
            resources.callback(self._wait_idle)  # before the slot is freed, should a run fail
            times = []
            for _ in range(PROBE_RUNS):
                self._run_blank(slot)
                times.append(self._driver.elapsed_ms(slot.events.arriving, slot.events.done))
            return min(times)

    def _run_blank(self, slot: Slot) -> None:
        """One black frame of the engine's size through a slot."""
        spec = self.manifest.input
        step = 3 * spec.width
        frame = Frame(memoryview(bytes(step * spec.height)), "bgr8", spec.width, spec.height, step, stamp_ns=0)
        self._submit(slot, frame, Outputs())
        self._collect(slot)

    def _submit(self, slot: Slot, frame: Frame, outputs: Outputs) -> None:
        image_layout, image = _read(frame)
        variant = slot.prepare(FrameKind.of(image_layout, outputs))
        slot.write(image, outputs)
        slot.job = Job(frame, variant)
        self._enqueue(slot, variant)

    def _enqueue(self, slot: Slot, variant: Variant) -> None:
        """Everything between a frame in page-locked memory and its pictures in page-locked memory; nothing waits."""
        assert self._compute is not None, "the engine is not loaded"
        driver, events, streams = self._driver, slot.events, slot.streams
        driver.record(events.arriving, streams.copy_in)
        slot.input.copy_in(variant.input_size, streams.copy_in)
        driver.record(events.arrived, streams.copy_in)
        driver.wait(streams.compute, events.arrived)
        self._compute.enqueue(slot, variant)
        driver.record(events.computed, streams.compute)
        driver.wait(streams.copy_out, events.computed)
        driver.record(events.leaving, streams.copy_out)
        slot.output.copy_out(variant.output_size, streams.copy_out)
        driver.record(events.done, streams.copy_out)
        if not self.polled:
            driver.wait(streams.notice, events.done)
            driver.launch_host(self._notify, streams.notice)

    def _collect(self, slot: Slot) -> Result:
        job, slot.job = slot.job, None
        assert job is not None, "collect of a slot that nothing was submitted to"
        assert self._compute is not None, "the engine is not loaded"
        self._driver.synchronize(slot.events.done)
        self._compute.judge(slot, job.variant)
        pictures = {name: picture.of(slot.output.bytes).copy() for name, picture in job.variant.pictures.items()}
        return Result(
            mask=pictures["mask"],
            timings=self._timings(slot.events),
            stamp_ns=job.frame.stamp_ns,
            frame_id=job.frame.frame_id,
            color_mask=pictures.get("color_mask"),
            overlay=pictures.get("overlay"),
            confidence=pictures.get("confidence"),
        )

    def _timings(self, events: Events) -> Timings:
        """A frame's time on the device, its copies included, its waits behind other frames not."""
        elapsed = self._driver.elapsed_ms
        return Timings(
            preprocess_ms=elapsed(events.arriving, events.arrived) + elapsed(events.started, events.preprocessed),
            inference_ms=elapsed(events.preprocessed, events.inferred),
            postprocess_ms=elapsed(events.inferred, events.computed) + elapsed(events.leaving, events.done),
        )


def _memory_name(mapped: bool) -> str:
    return "mapped memory" if mapped else "copies"


def _read(frame: Frame) -> tuple[ImageLayout, Image8]:
    """How the picture lies in its bytes, and these, (N,) uint8; a compressed one is decoded by the host.

    Raises:
        FrameError: the frame cannot be used.
    """
    if is_compressed(frame):
        image = decode(frame)
        height, width = image.shape[:2]
        return ImageLayout("bgr8", width, height, 3 * width, image.size), image.reshape(-1)
    image_layout = layout(frame)
    return image_layout, np.frombuffer(frame.data, np.uint8, image_layout.size)
