"""torch's own words for what a user can mend, as our errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlctl.errors import OutOfMemory, StepFailed

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")
LONELY_SAMPLE = "Expected more than 1 value per channel when training"


@contextmanager
def named_failures(device: torch.device) -> Iterator[None]:
    """Within it, a lack of memory raises OutOfMemory and a batch too small for batch normalization StepFailed."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"{device} has no room: {error}") from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise OutOfMemory(f"{device} has no room: {error}") from error
        raise
    except ValueError as error:
        if str(error).startswith(LONELY_SAMPLE):
            raise StepFailed(
                "batch normalization needs more than one value per channel", next="raise `batch_size` to 2 or more"
            ) from error
        raise
