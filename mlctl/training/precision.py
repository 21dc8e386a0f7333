"""Which arithmetic forward and backward run in."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Choice:
    """A precision, and why it is this one."""

    precision: Precision
    reason: str


def choose_precision(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Choice:
    """What the recipe asks for or, for `auto`, what this kind of device computes fastest.

    `auto` looks only at what the device can do, never at a clock, so that the same machine always chooses the same.
    """
    if asked != "auto":
        return Choice(asked, "the recipe asks for it")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bfloat16", "this GPU computes in bfloat16")
        return Choice("float32", "this GPU has no bfloat16")
    if torch.cpu._is_amx_tile_supported():
        return Choice("bfloat16", "this CPU has AMX")
    # AVX512-BF16 alone loses: 2 cores, torch 2.13, batch 128: perceptrons × 0.43–0.64 of float32, small CNN × 0.86–1.0.
    return Choice("float32", "this CPU has no AMX, without which bfloat16 is slower")


def autocast(choice: Choice, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward pass runs in the chosen precision."""
    if choice.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
