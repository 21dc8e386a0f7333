"""torch's own words for what a user can mend, as our errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlctl.errors import OutOfMemory, StepFailed

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")
LONELY_SAMPLE = "Expected more than 1 value per channel when training"
COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device, or the host, has no room."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def is_lonely(error: ValueError) -> bool:
    """Whether batch normalization was given one value for a channel, which has no variance."""
    return str(error).startswith(LONELY_SAMPLE)


def first_line(error: BaseException) -> str:
    """What the error says, without what may follow in further lines."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def named_failures(device: torch.device) -> Iterator[None]:
    """Within it, a lack of memory raises OutOfMemory; a batch too small for batch normalization and a network that
    `torch.compile` cannot build raise StepFailed."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"{device} has no room: {first_line(error)}") from error
        if type(error).__module__.startswith(COMPILERS):
            raise StepFailed(
                f"torch.compile cannot build the network: {first_line(error)}", next="set `compile: false`"
            ) from error
        raise
    except ValueError as error:
        if is_lonely(error):
            raise StepFailed(
                "batch normalization needs more than one value per channel",
                next="raise `batch_size`, and `micro_batch` where it is set, to 2 or more",
            ) from error
        raise
