"""Which library stands behind the CUDA driver's interface on this machine."""

from __future__ import annotations

from collections.abc import Callable

from eseg_ros.errors import RuntimeUnavailableError
from eseg_ros.runtime.cuda.bindings_driver import BindingsDriver
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.pycuda_driver import PycudaDriver

_KINDS: dict[str, Callable[[], Driver]] = {"pycuda": PycudaDriver, "bindings": BindingsDriver}
DRIVERS = ("auto", *_KINDS)


def open_driver(kind: str = "auto") -> Driver:
    """A driver whose device is not open yet.

    Args:
        kind: one of DRIVERS; "auto" takes pycuda where it is installed and works, otherwise cuda.bindings.

    Raises:
        RuntimeUnavailableError: no NVIDIA driver, or the library is missing or does not work with it.
        ValueError: an unknown kind.
    """
    if kind not in DRIVERS:
        raise ValueError(f"the CUDA driver is {kind!r}; expected one of {', '.join(DRIVERS)}")
    if kind != "auto":
        return _KINDS[kind]()
    reasons = []
    for create in _KINDS.values():
        try:
            return create()
        except RuntimeUnavailableError as error:
            reasons.append(str(error))
    raise RuntimeUnavailableError("; ".join(dict.fromkeys(reasons)))
