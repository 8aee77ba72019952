"""Builds plans: an engine's ONNX file through TensorRT's parser and builder, into the plan cache.

Precision is the ONNX file's own, not the builder's choice: a float16 or INT8 engine is a file of its own whose types
say what is computed in what (see docs/engines.md). That is the one way that TensorRT 8 to 11 share.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from tqdm import tqdm

from eseg_ros.engine.manifest import Engine, load_engine, write_atomically
from eseg_ros.engine.plan import TARGETS, BuildOptions, Machine, Plan, manifest_file
from eseg_ros.engine.plan_cache import find_or_store
from eseg_ros.errors import DeviceError, EngineError, UsageError
from eseg_ros.runtime.tensorrt import api

DEFAULT_OPTIONS = BuildOptions()


def engine_of_precision(path: Path, precision: str | None) -> Engine:
    """The engine at `path`, or its sibling of another precision: NAME for fp32, NAME_fp16, NAME_int8.

    Raises:
        EngineError: it cannot be read, or there is no such sibling.
    """
    engine = load_engine(path)
    manifest = engine.manifest
    if precision in (None, manifest.precision):
        return engine
    base = manifest.name.removesuffix(f"_{manifest.precision}")
    source = manifest_file(engine).with_name(f"{base}.json")
    sibling = source if precision == "fp32" else source.with_name(f"{base}_{precision}.json")
    if not sibling.exists():
        how = "" if sibling == source else f" Make it: eseg quantize {source} --precision {precision} --data ROOT"
        raise EngineError(
            f"{manifest_file(engine)} is an {manifest.precision} engine, and its {precision} sibling {sibling} is not "
            f"there. TensorRT computes in the types of the ONNX file: each precision is an engine of its own.{how}"
        )
    found = load_engine(sibling)
    if found.manifest.precision != precision:
        raise EngineError(f"{sibling} is an {found.manifest.precision} engine; expected {precision}, by its name")
    return found


def build_plan(
    trt: Any,
    engine: Engine,
    machine: Machine,
    cache: Path,
    options: BuildOptions = DEFAULT_OPTIONS,
    timing_cache: Path | None = None,
) -> tuple[Plan, bool]:
    """Build an engine's plan, unless the cache has it; with a progress bar, for minutes.

    Args:
        trt: the library's module, see `api.import_tensorrt`.
        engine: what to build.
        machine: this machine; or with TensorRT for RTX every one, see `api.machine_ahead`.
        cache: the plan cache.
        options: another choice is another plan.
        timing_cache: file of TensorRT's measurements, read if it is there and written; builds of similar engines on
            the same machine are shorter with it.

    Returns:
        The plan, and whether it was built just now.

    Raises:
        EngineError: TensorRT does not build the engine, or the cache's folder is not this user's own.
        DeviceError: TensorRT cannot use the GPU.
        UsageError: this version has no such option, or TensorRT for RTX was given a timing cache.
    """
    if timing_cache is not None and machine.target == "rtx":
        raise UsageError("TensorRT for RTX measures nothing when it builds; leave out --timing-cache")
    return find_or_store(
        engine,
        machine,
        options,
        cache,
        lambda: serialize(trt, engine, machine, options, timing_cache),
        on_wait=lambda: tqdm.write(f"Waiting for another build in {cache}"),
    )


def find_or_build_plan(trt: Any, engine: Engine, machine: Machine, cache: Path) -> Plan:
    """The plan that runs `engine` on `machine`, built if it is not there. Blocks for minutes then.

    Raises:
        EngineError, DeviceError: as `build_plan`.
    """
    built_for = api.machine_ahead(trt, machine.capabilities) if machine.target == "rtx" else machine
    return build_plan(trt, engine, built_for, cache)[0]


def serialize(
    trt: Any, engine: Engine, machine: Machine, options: BuildOptions, timing_cache: Path | None = None
) -> bytes:
    """An engine's plan, not stored; arguments and errors are those of `build_plan`."""
    logger = api.make_logger(trt)
    builder = _create_builder(trt, logger, machine)
    network = builder.create_network(api.network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(engine.onnx)):
        raise EngineError(
            f"{machine} cannot read {engine.onnx}, opset {engine.manifest.opset}: "
            f"{api.parser_errors(parser) or logger.take_errors()}. A newer TensorRT may; or use runtime: auto, the "
            "same engine on the CPU"
        )
    config = builder.create_builder_config()
    api.configure(trt, config, engine.manifest, machine, options)
    if timing_cache is not None:
        _read_timing_cache(config, timing_cache, machine)
    with BuildBar(engine.manifest.name) as bar:
        monitor = api.follow(trt, config, bar)
        if monitor is None:
            bar.say(f"minutes; {TARGETS[machine.target]} {machine.version} reports no progress")
        serialized = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.cancelled:
        raise KeyboardInterrupt
    if serialized is None:
        hint = (
            "A GPU that you do not have may be why; name yours: --capability 8.6"
            if machine.target == "rtx"
            else "If memory is short, stop what else uses the GPU, or set --workspace MIB"
        )
        reason = logger.take_errors() or "it gives no reason"
        raise EngineError(f"{machine} cannot build {engine.onnx}: {reason}. {hint}")
    if timing_cache is not None:
        write_atomically(timing_cache, bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(serialized))


def _create_builder(trt: Any, logger: Any, machine: Machine) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # how the bindings say that the library gave none
        raise DeviceError(
            f"{TARGETS[machine.target]} {machine.version} cannot use the GPU: {logger.take_errors() or error}. "
            "Check the driver: nvidia-smi"
        ) from error


def _read_timing_cache(config: Any, path: Path, machine: Machine) -> None:
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise EngineError(
            f"{path} is no timing cache of {machine}: it is cut, or of another version or GPU. Name another file, "
            f"or delete it: rm {quote(str(path))}"
        )


class BuildBar:
    """A progress bar of a build, on a terminal: the steps of the whole build, and the phase that is under way."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(desc=f"Building {name}", unit="step", leave=False, disable=None)
        self._phases: list[str] = []

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins; the first is the whole build."""
        if not self._phases:
            self._bar.reset(total=steps)
        self._phases.append(phase)
        self.say(phase)

    def say(self, text: str) -> None:
        """What is under way, in words."""
        self._bar.set_postfix_str(text)

    def step(self, phase: str, done: int) -> None:
        """Steps of a phase are done; those of the whole build move the bar."""
        if phase == self._phases[0]:
            self._bar.update(done - self._bar.n)

    def finish(self, phase: str) -> None:
        """A phase is over."""
        if phase in self._phases:
            self._phases.remove(phase)
