"""A teacher that answers slowly, in a process of its own: `python answering_process.py DATA RESUME SECONDS [LIMIT]`.

LIMIT is the largest size of a file, in bytes; writing beyond it fails as it does on a full disk.
"""

import resource
import signal
import sys
import time
from pathlib import Path

import torch

from mlctl.compression.distillation import answering
from mlctl.compression.distillation.answering import Asking, save_answers
from mlctl.compression.distillation.teacher import Inputs
from mlctl.data.prepared import PreparedData
from mlctl.errors import Interrupted
from mlctl.events import silent

BATCH = 4


class Slow:
    """Two logits of every row: its first number and minus it."""

    identity = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0

    def __call__(self, inputs: Inputs, /) -> torch.Tensor:
        time.sleep(self.seconds)
        self.asked += len(inputs[0])
        first = inputs[0].float().flatten(1)[:, :1]
        return torch.cat((first, -first), 1)


def save(data: Path, resume: Path, teacher: Slow) -> None:
    answering.BATCH = BATCH
    asking = Asking(64, torch.device("cpu"), seconds=0.0)
    save_answers(teacher, PreparedData.open(data), asking, resume, silent)


def main(data: Path, resume: Path, seconds: float, limit: int | None = None) -> None:
    def stop(number: int, frame: object) -> None:
        raise Interrupted(number)

    signal.signal(signal.SIGTERM, stop)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    save(data, resume, Slow(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
