"""A training's whole state as one file, so that no two files can ever disagree."""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from mlctl.digests import Json, canonical
from mlctl.events import Tell, Warned
from mlctl.training.history import EpochRecord

FILE_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: `step` steps are done of epoch `epoch` (from 0), and all that the next one depends on.

    `tensors` are on any device; a `step` equal to the epoch's number of steps means that only its validation is left.
    """

    total_steps: int
    epoch: int
    step: int
    history: tuple[EpochRecord, ...]
    tensors: dict[str, Tensor]


class CheckpointFile:
    """The one checkpoint of a training in its private folder, written every so many seconds."""

    def __init__(self, folder: Path, seconds: float, tell: Tell) -> None:
        self.path = folder / FILE_NAME
        self.seconds = seconds
        self.tell = tell
        self.written = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough to be replaced."""
        return time.monotonic() - self.written >= self.seconds

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file by rename: whatever happens, a whole checkpoint lies there, the old one or the new one."""
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in checkpoint.tensors.items()
        }
        header = _header(checkpoint)
        metadata = {"mlctl": canonical({**header, "sha256": _digest(header, tensors)}).decode()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".writing")
        with aside.open("wb") as stream:
            stream.write(tensors_to_bytes(tensors, metadata=metadata))
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self.path)
        _flush_folder(self.path.parent)
        self.written = time.monotonic()

    def read(self, total_steps: int) -> Checkpoint | None:
        """The checkpoint that lies there, or None for a start from the beginning.

        One that is damaged, or was written by another torch or for another number of steps, is told of and left out.
        """
        if not self.path.exists():
            return None
        try:
            checkpoint = _parse(self.path, total_steps)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            self.tell(Warned(f"{self.path}: not a usable checkpoint ({error}); training starts from the beginning"))
            return None
        return checkpoint


def _header(checkpoint: Checkpoint) -> dict[str, Json]:
    return {
        "format": 1,
        "torch": torch.__version__,
        "total_steps": checkpoint.total_steps,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "history": [asdict(record) for record in checkpoint.history],
    }


def _parse(path: Path, total_steps: int) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads((file.metadata() or {})["mlctl"])
        # Cloned: the file's own memory is neither ours to keep nor aligned.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if header.pop("sha256") != _digest(header, tensors):
        raise ValueError("its checksum is wrong")
    for key, expected in (("format", 1), ("torch", torch.__version__), ("total_steps", total_steps)):
        if header[key] != expected:
            raise ValueError(f"{key} is {header[key]}, not {expected}")
    history = tuple(EpochRecord(**{**raw, "validation": tuple(raw["validation"])}) for raw in header["history"])
    return Checkpoint(header["total_steps"], header["epoch"], header["step"], history, tensors)


def _digest(header: dict[str, Json], tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of the header and of every tensor's name, dtype, shape and bytes, in the order of the names."""
    hasher = hashlib.sha256(canonical(header))
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        hasher.update(tensor.flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
