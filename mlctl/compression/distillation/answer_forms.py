"""The form in which a teacher's answers are kept: small, and all that a loss needs at any temperature."""

# B batch, C classes, T tokens of a window, V vocabulary, K tokens that are kept

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mlctl.compression.distillation.distillation_losses import coarse

FormName: TypeAlias = Literal["logits", "kept-tokens", "numbers"]

LOWEST = float(np.finfo(np.float16).min)
"""The least float16: a share of nothing at any temperature that means something."""


@dataclass(frozen=True)
class ArrayForm:
    """One file: its name without `.npy`, NumPy dtype, and the shape of a row."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class AnswerForm:
    """How raw outputs are kept.

    `logits`: float16 [C] or [T, V], less the largest of each place, which changes no softmax and makes the likely ones
    exact; float16 could not hold logits far from 0.

    `kept-tokens`: of each place the K largest logits, the token that truly came next among them in the last's stead,
    and the logarithm of all others' sum, less the largest. So every place is an exact distribution over K + 1 things,
    and temperature softens that one, for the student as for the teacher: what the others would be at another
    temperature is known of none of them.

    `numbers`: float32 [1].
    """

    name: FormName
    row: tuple[int, ...]
    """Shape of a row of raw outputs."""
    kept: int = 0
    """K, for kept tokens."""

    @classmethod
    def of(cls, row: tuple[int, ...], *, is_distribution: bool, top_k: int) -> "AnswerForm":
        """The form for raw outputs of this shape: kept tokens for windows over a vocabulary larger than `top_k`."""
        if not is_distribution:
            return cls("numbers", row)
        if len(row) == 2 and row[1] > top_k:
            return cls("kept-tokens", row, top_k)
        return cls("logits", row)

    @property
    def arrays(self) -> tuple[ArrayForm, ...]:
        """The files, in the order in which a loss is given their rows."""
        if self.name == "numbers":
            return (ArrayForm("numbers", "float32", self.row),)
        if self.name == "logits":
            return (ArrayForm("logits", "float16", self.row),)
        tokens, vocabulary = self.row
        index = "uint16" if vocabulary <= 1 << 16 else "uint32"
        return (
            ArrayForm("values", "float16", (tokens, self.kept)),
            ArrayForm("indices", index, (tokens, self.kept)),
            ArrayForm("others", "float16", (tokens, 1)),
        )

    def reduced(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """What is kept of raw outputs [B, ...] to samples with these targets [B, ...], in the order of `arrays`.

        Indices are int64 and numbers float32 still; they fit the arrays' dtypes.
        """
        if self.name == "numbers":
            return (outputs,)
        if self.name == "logits":
            return (_shifted(outputs),)
        indices = outputs.topk(self.kept).indices
        is_missing = (indices != targets.unsqueeze(-1)).all(-1)
        indices[..., -1] = torch.where(is_missing, targets, indices[..., -1])
        found = _shifted(coarse(outputs, indices))
        return found[..., :-1], indices, found[..., -1:]

    def compared(self, outputs: Tensor, targets: Tensor, rows: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The student's raw `outputs` and what was kept of the teacher's, side by side, and the targets among them.

        float32 [B, ..., C] twice, C being K + 1 for kept tokens, and int64 [B, ...]; `rows` as `reduced` gives them, in
        the arrays' dtypes.
        """
        if self.name != "kept-tokens":
            return outputs, rows[0].float(), targets
        # torch compares and gathers with no uint16.
        values, indices, others = rows[0], rows[1].long(), rows[2]
        places = (indices == targets.unsqueeze(-1)).int().argmax(-1)
        return coarse(outputs, indices), torch.cat((values, others), -1).float(), places


def _shifted(logits: Tensor) -> Tensor:
    return (logits - logits.amax(-1, keepdim=True)).clamp_min(LOWEST)
