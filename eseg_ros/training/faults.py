"""What stops a training, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eseg_ros.data.reading import DataError
from eseg_ros.errors import EsegError
from eseg_ros.training.config import TrainConfig

_SIGNS = ("can't allocate memory", "not enough memory", "is killed by signal: Killed")
"""In the message of a RuntimeError: PyTorch's allocator on the CPU, and a loader process that the kernel ended."""


class OutOfMemoryError(EsegError):
    """The machine's or the device's memory does not hold a step."""


@contextmanager
def named_faults(config: TrainConfig) -> Iterator[None]:
    """Turns what the frameworks raise for bad data and for too little memory into errors that say what to change.

    Raises:
        DataError: a frame or label is bad; the message is the same whether a loader process found it or this one.
        OutOfMemoryError: a step did not fit.
        EsegError: the device does not know the recipe's precision.
    """
    if config.precision == "16-mixed" and not torch.cuda.is_available():
        raise EsegError("precision: 16-mixed needs a GPU, and PyTorch finds none; give precision=bf16-mixed or 32")
    try:
        yield
    except DataError as error:
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None  # a loader adds its traceback
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        height, width = config.augment.crop
        found = (str(error) or "MemoryError").splitlines()[0]
        raise OutOfMemoryError(
            f"out of memory: steps of {config.data.batch_size} frames of {width}x{height} pixels in "
            f"{config.accumulate} passes of {config.model} do not fit ({found}). Split the steps: "
            f"accumulate={2 * config.accumulate}; or lower augment.crop, data.batch_size or data.num_workers, or give "
            "data.cache=false. eseg train --dry-run says what a recipe needs"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in _SIGNS)
