"""What one frame under way needs for itself: page-locked memory, its twin on the device, events, variants."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields

import numpy as np

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.runtime.cuda.driver import Driver, HostBuffer
from eseg_ros.runtime.cuda.parameters import LIVE
from eseg_ros.runtime.cuda.variant import HEADER, FrameKind, Tensors, Variant, Variants, buffer_sizes, make_variant
from eseg_ros.runtime.types import Frame, Image8, Outputs


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that a frame goes through; common to all slots.

    Nothing but `notice` may hold host functions: one waits for Python's lock, and what is behind it waits as well.
    """

    copy_in: int
    compute: int
    copy_out: int
    notice: int


@dataclass(frozen=True, slots=True)
class Events:
    """The moments of a frame on the device, in order.

    `preprocessed` and `inferred` are recorded inside a captured graph, all others outside.
    """

    arriving: int  # copy-in begins
    arrived: int  # copy-in is done
    started: int  # compute begins, behind the frames before
    preprocessed: int
    inferred: int
    computed: int  # compute is done
    leaving: int  # copy-out begins
    done: int  # copy-out is done: nothing uses the slot any more

    @staticmethod
    def create(driver: Driver, resources: ExitStack, *, blocking: bool) -> Events:
        """New events; `resources` destroys them. A thread that waits for a blocking one sleeps."""

        def event() -> int:
            handle = driver.event(blocking=blocking)
            resources.callback(driver.destroy_event, handle)
            return handle

        return Events(*(event() for _ in fields(Events)))


class Staging:
    """Page-locked memory and its twin on the device; mapped memory is its own twin, and copies are none.

    It grows to what is asked for and never shrinks. Both sides are new then, and what they held is lost.
    """

    def __init__(self, driver: Driver, resources: ExitStack, *, mapped: bool) -> None:
        self._driver = driver
        self._mapped = mapped
        self._host: HostBuffer | None = None
        self._device = 0
        self.size = 0
        resources.callback(self._free)

    @property
    def bytes(self) -> Image8:
        """(N,) uint8, the host's side."""
        assert self._host is not None, "nothing was reserved"
        return self._host.array

    @property
    def address(self) -> int:
        """The device's side."""
        assert self._host is not None, "nothing was reserved"
        return self._host.address if self._mapped else self._device

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes. Nothing may be under way with the old memory.

        The old memory is freed first: on a small device both may not fit.
        """
        if size <= self.size:
            return
        self._free()
        self._host = self._driver.alloc_host(size, mapped=self._mapped)
        if not self._mapped:
            self._device = self._driver.alloc(size)
        self.size = size

    def copy_in(self, size: int, stream: int) -> None:
        """Enqueue the host's first `size` bytes for the device."""
        if not self._mapped:
            assert self._host is not None, "nothing was reserved"
            self._driver.copy_in(self._device, self._host, size, stream)

    def copy_out(self, size: int, stream: int) -> None:
        """Enqueue the device's first `size` bytes for the host."""
        if not self._mapped:
            assert self._host is not None, "nothing was reserved"
            self._driver.copy_out(self._host, self._device, size, stream)

    def _free(self) -> None:
        host, self._host = self._host, None
        device, self._device = self._device, 0
        self.size = 0
        try:
            if device:
                self._driver.free(device)
        finally:
            if host is not None:
                self._driver.free_host(host)


@dataclass(frozen=True, slots=True)
class Job:
    """A frame under way, whose bytes have been copied, and what is run for it."""

    frame: Frame
    variant: Variant


class Slot:
    """Buffers, events and variants of one frame at a time.

    They may be used again as soon as `events.done` has happened: the last copy-out lies behind the last kernel, and
    that behind the copy-in.

    Args:
        driver: an open driver.
        resources: frees all of it.
        manifest: the engine's.
        tensors: the engine's, common to all slots.
        streams: those that its frames go through.
        mapped: whether the kernels work in the host's memory.
        blocking: whether a thread that waits for a frame sleeps.

    Attributes:
        job: the frame under way; None: the slot is free.
        trial: what a new graph gave for that frame, to be compared with the plain way's result in `output`.
    """

    def __init__(
        self,
        driver: Driver,
        resources: ExitStack,
        manifest: EngineManifest,
        tensors: Tensors,
        streams: Streams,
        *,
        mapped: bool,
        blocking: bool,
    ) -> None:
        self._manifest = manifest
        self._tensors = tensors
        self._driver = driver
        self.streams = streams
        self.events = Events.create(driver, resources, blocking=blocking)
        self.input = Staging(driver, resources, mapped=mapped)
        self.output = Staging(driver, resources, mapped=mapped)
        self.variants = Variants(driver)
        self.job: Job | None = None
        self.trial: HostBuffer | None = None
        resources.callback(self.variants.clear)
        resources.callback(self.end_trial)

    def prepare(self, kind: FrameKind) -> Variant:
        """The variant for a kind of frame, with room for it in the buffers. The slot must be free."""
        variant = self.variants.find(kind)
        if variant is None:
            input_size, output_size = buffer_sizes(kind)
            if input_size > self.input.size or output_size > self.output.size:
                self.variants.clear()  # they know the old addresses
                self.input.reserve(input_size)
                self.output.reserve(output_size)
            variant = make_variant(kind, self._manifest, self._tensors, self.input.address, self.output.address)
            self.variants.add(kind, variant)
        return variant

    def write(self, image: Image8, outputs: Outputs) -> None:
        """Put a frame into the page-locked memory: what is live, then the image's bytes, (N,) uint8."""
        classes = outputs.relabeling.classes if outputs.relabeling else self._manifest.classes
        live = self.input.bytes[: LIVE.itemsize].view(LIVE)
        live["alpha"] = outputs.overlay_alpha
        live["threshold"] = outputs.confidence_threshold
        live["ids"] = np.frombuffer(outputs.relabeling.ids, np.uint8) if outputs.relabeling else np.arange(256)
        live["palette"] = classes.color_table()[:, ::-1]
        np.copyto(self.input.bytes[HEADER : HEADER + image.size], image)

    def begin_trial(self, size: int) -> HostBuffer:
        """Page-locked memory for what a new graph gives."""
        self.trial = self._driver.alloc_host(size)
        return self.trial

    def end_trial(self) -> None:
        """Free it again, if there is one."""
        trial, self.trial = self.trial, None
        if trial is not None:
            self._driver.free_host(trial)
