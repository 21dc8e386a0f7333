"""A teacher answers the whole train split, once."""

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from mlctl.compression.distillation.answer_files import AnswerDescription, Key, answer_writer
from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.teacher import Teacher
from mlctl.data.prepared import PreparedData, Split
from mlctl.errors import MachineError, StepFailed
from mlctl.events import Progress, Tell
from mlctl.runtime.answers import BATCH_BYTES, BATCH_PLACES, Arrays

BATCH = 256
"""Rows that are answered at once, at most."""
SECONDS = 15.0
"""Longest time of work that a kill undoes."""
TELL_SECONDS = 0.2


@dataclass(frozen=True)
class Asking:
    """How a teacher is asked: `top_k` tokens of a place are kept, and after so many `seconds` what is there is safe."""

    top_k: int
    device: torch.device
    seconds: float = SECONDS


def save_answers(teacher: Teacher, data: PreparedData, asking: Asking, resume: Path, tell: Tell) -> AnswerDescription:
    """Write the teacher's answers to the train split, in its order, into `resume`; gives what they are.

    Goes on from what an earlier process left there, if that was the same teacher; killed and called again it ends in
    the same bytes. Memory holds one batch. Raises StepFailed for answers that do not fit the task or are not finite,
    and what the teacher raises; a MachineError of its says how many rows are done.
    """
    split = data.split("train")
    first = teacher(tensors(split.inputs, slice(0, 1), asking.device))
    require_fit(first, data)
    row = tuple(first.shape[1:])
    form = AnswerForm.of(row, is_distribution=_is_distribution(data), top_k=asking.top_k)
    size = _rows_at_once(row)
    key: Key = {"teacher": teacher.identity, "form": form.name, "kept": form.kept, "batch": size, "total": len(split)}
    with answer_writer(resume, form, len(split), key) as writer:
        pace = _Pace(tell, len(split), writer.rows)
        flushed = time.monotonic()
        while writer.rows < len(split):
            rows = slice(writer.rows, min(writer.rows + size, len(split)))
            writer.append(_reduced(form, _answered(teacher, split, rows, asking.device), split, rows))
            pace.tell(writer.rows)
            if time.monotonic() - flushed >= asking.seconds:
                writer.flush(key)
                flushed = time.monotonic()
    return AnswerDescription(len(split), form, teacher.identity)


def tensors(inputs: Arrays, rows: slice, device: torch.device) -> tuple[Tensor, ...]:
    """Some rows of every input [N, ...], on the device."""
    # Copied, because memory-mapped rows are read-only, which torch does not know.
    return tuple(torch.from_numpy(each[rows].copy()).to(device) for each in inputs)


def require_fit(outputs: Tensor, data: PreparedData) -> None:
    """Raise StepFailed where raw outputs [B, ...] are none that the task's networks could give."""
    description = data.description
    wanted: tuple[int, ...] = (len(description.labels) or 1,)
    if description.vocabulary:
        wanted = (*description.target.shape, description.vocabulary)
    if tuple(outputs.shape[1:]) != wanted:
        raise StepFailed(
            f"the teacher answers a row with the shape {list(outputs.shape[1:])}, the task wants {list(wanted)}",
            next="choose a teacher that learnt the same task and the same classes or tokens",
        )


def _is_distribution(data: PreparedData) -> bool:
    return bool(data.description.labels or data.description.vocabulary)


def _rows_at_once(row: tuple[int, ...]) -> int:
    """As `runtime.answers.rows_at_once`, for float32 answers of this shape."""
    return max(1, min(BATCH, BATCH_BYTES // (4 * prod(row)), BATCH_PLACES // prod(row[:-1])))


def _answered(teacher: Teacher, split: Split, rows: slice, device: torch.device) -> Tensor:
    try:
        outputs = teacher(tensors(split.inputs, rows, device))
    except MachineError as error:
        done = f"{rows.start:,} of {len(split):,} rows are answered"
        next_step = "run the same command again when it is back; it goes on from there"
        raise MachineError(f"{error.what}; {done}", where=error.where, next=next_step) from error
    is_finite = torch.isfinite(outputs).flatten(1).all(1)
    if not is_finite.all():
        place = rows.start + int((~is_finite).nonzero()[0])
        raise StepFailed(
            f"the teacher's answer to row {place} of the train split is not a finite number",
            next="look at the step that made the teacher, or choose another one",
        )
    return outputs


def _reduced(form: AnswerForm, outputs: Tensor, split: Split, rows: slice) -> Arrays:
    (targets,) = tensors((split.targets,), rows, outputs.device)
    if not targets.is_floating_point():
        targets = targets.to(torch.int64)
    return tuple(each.cpu().numpy() for each in form.reduced(outputs, targets))


class _Pace:
    """How far the teacher has come, told a few times a second."""

    def __init__(self, tell: Tell, total: int, done: int) -> None:
        self._tell = tell
        self._total = total
        self._began = done
        self._started = time.monotonic()
        self._told = -TELL_SECONDS

    def tell(self, done: int) -> None:
        now = time.monotonic()
        if done < self._total and now - self._told < TELL_SECONDS:
            return
        self._told = now
        rate = (done - self._began) / max(now - self._started, 1e-9)
        left = (self._total - done) / rate if rate else None
        self._tell(Progress("rows", done, self._total, "rows", "answers of the teacher", rate, left))
