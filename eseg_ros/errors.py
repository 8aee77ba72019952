"""The named errors of the core. Each message says what was found, what was expected and what to do."""

from __future__ import annotations


class EsegError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(EsegError, ValueError):
    """What a person asked for is no value that there can be, or does not go with the rest of what was asked for."""


class FrameError(EsegError):
    """One frame cannot be used: it is dropped and counted, the stream goes on."""


class UnsupportedEncodingError(FrameError):
    """The frame's encoding is none that the decoder knows."""


class EngineError(EsegError):
    """An engine cannot be used: a file is missing, cut, foreign or does not match its manifest."""


class RuntimeUnavailableError(EsegError):
    """The inference library that was asked for is not installed on this machine."""


class DeviceError(EsegError):
    """The accelerator or the inference library failed while running; the engine must be loaded anew."""


class BagError(EsegError):
    """A bag cannot be read, written or played: it is missing, cut, or lacks the topic that was asked for."""
