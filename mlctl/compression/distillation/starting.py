"""A student that starts with what its teacher has learnt, where both have the same layers."""

import torch
from torch import nn


def start_from(student: nn.Module, teacher: nn.Module) -> tuple[str, ...]:
    """Copy every parameter and buffer of the teacher's whose name, shape and dtype the student has too, in place.

    Gives their names, in the student's order; none where nothing fits.
    """
    theirs = teacher.state_dict()
    copied = []
    with torch.no_grad():
        for name, own in student.state_dict().items():
            found = theirs.get(name)
            if found is not None and (found.shape, found.dtype) == (own.shape, own.dtype):
                own.copy_(found)
                copied.append(name)
    return tuple(copied)
