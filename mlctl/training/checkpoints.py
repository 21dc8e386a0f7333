"""A training's whole state as one file, so that no two files can ever disagree; written while training goes on."""

import errno
import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mlctl.digests import Json, canonical
from mlctl.errors import DiskFull, MachineError
from mlctl.events import Tell, Warned
from mlctl.training.history import EpochRecord
from mlctl.training.processes import Group
from mlctl.training.tensor_file import tensors_digest, write_tensors

FILE_NAME = "checkpoint.safetensors"
FORMAT = 2
# A file-size limit looks like a full disk to whoever writes, and is mended in the same way.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: `step` steps are done of epoch `epoch` (from 0), and all that the next one depends on.

    `tensors` are on any device; a `step` equal to the epoch's number of steps means that only its validation is left.
    `settled` are further tensors, on the host, that never change again. `micro_batch` is the number of samples that
    are computed at once.
    """

    total_steps: int
    epoch: int
    step: int
    micro_batch: int
    history: tuple[EpochRecord, ...]
    tensors: dict[str, Tensor]
    settled: dict[str, Tensor] = field(default_factory=dict)


class CheckpointFile:
    """The one checkpoint of a training in its private folder, written every so many seconds by a thread of its own.

    A context: at its end the file under way is finished.
    """

    def __init__(self, folder: Path, seconds: float, tell: Tell) -> None:
        self.path = folder / FILE_NAME
        self.seconds = seconds
        self.tell = tell
        self.begun = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            # An error on its way says more than that of a file which nobody may need.
            if error is None:
                self.finish()
        finally:
            self._writer.shutdown(wait=True)

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough to be replaced, and written. Raises what its writing raised."""
        if self._under_way is not None and self._under_way.done():
            self.finish()
        return self._under_way is None and time.monotonic() - self.begun >= self.seconds

    def write(self, checkpoint: Checkpoint) -> None:
        """Copy the checkpoint and let a thread replace the file by it; waits for a file that is still being written.

        The file is replaced by rename: whatever happens, a whole checkpoint lies there, the old one or the new one.
        Raises what the writing before it raised.
        """
        self.finish()
        self.begun = time.monotonic()
        self._copy(checkpoint.tensors)
        self._under_way = self._writer.submit(_write, self.path, checkpoint, {**self._copies, **checkpoint.settled})

    def finish(self) -> None:
        """Wait until what was given to `write` lies on disk. Raises DiskFull, or MachineError, where it cannot."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

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

    @torch.inference_mode(False)  # what is made within that mode could not be written to outside of it
    def _copy(self, tensors: dict[str, Tensor]) -> None:
        """Copy the tensors to the host, into the same memory every time: new pages would take longer than the copy."""
        for name, tensor in tensors.items():
            copy = self._copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
                self._copies[name] = copy
            copy.copy_(tensor.detach(), non_blocking=True)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)


def _write(path: Path, checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    header = _header(checkpoint)
    metadata = canonical({**header, "sha256": tensors_digest(header, tensors)}).decode()
    aside = path.with_suffix(".writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as stream:
            write_tensors(stream, tensors, metadata)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        # Half a file would only take the room that whoever frees some is looking for.
        with suppress(OSError):
            aside.unlink()
        if error.errno in NO_ROOM:
            raise DiskFull("there is no room for a checkpoint", where=path) from error
        raise MachineError(f"a checkpoint cannot be written ({error.strerror})", where=path) from error


def _header(checkpoint: Checkpoint) -> dict[str, Json]:
    return {
        "format": FORMAT,
        "torch": torch.__version__,
        "total_steps": checkpoint.total_steps,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "micro_batch": checkpoint.micro_batch,
        "history": [asdict(record) for record in checkpoint.history],
    }


def _parse(path: Path, total_steps: int) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads((file.metadata() or {})["mlctl"])
        # Cloned: the file's own memory is neither ours to keep nor aligned.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if header.pop("sha256") != tensors_digest(header, tensors):
        raise ValueError("its checksum is wrong")
    for key, expected in (("format", FORMAT), ("torch", torch.__version__), ("total_steps", total_steps)):
        if header[key] != expected:
            raise ValueError(f"{key} is {header[key]}, not {expected}")
    return _of(header, tensors)


def shared(checkpoint: Checkpoint | None, group: Group) -> Checkpoint | None:
    """What the leader of the group has read, in every process."""
    header = group.word(_header(checkpoint) if checkpoint else None)
    if header is None:
        return None
    return _of(header, group.tensors(checkpoint.tensors if checkpoint else None))


def _of(header: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    history = tuple(EpochRecord(**{**raw, "validation": tuple(raw["validation"])}) for raw in header["history"])
    return Checkpoint(header["total_steps"], header["epoch"], header["step"], header["micro_batch"], history, tensors)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
