"""One process of a group, for test_processes.py: `python group_of_processes.py RANK COUNT PORT` prints JSON."""

import json
import sys
from typing import Any

import torch
from torch import Tensor, nn

from mlctl.errors import StepFailed
from mlctl.training.meeting import Meeting
from mlctl.training.places import Place
from mlctl.training.processes import Group

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """Several buckets' worth of layers, with chance and running figures."""

    def __init__(self) -> None:
        super().__init__()
        layers = (each for _ in range(6) for each in (nn.Linear(64, 64), nn.Tanh()))
        self.body = nn.Sequential(*layers, nn.BatchNorm1d(64), nn.Dropout(0.5))

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = self.body(rows)
        return outputs


class Idle(nn.Module):
    """A network with a parameter that its outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = self.used(rows)
        return outputs


def gradients(network: nn.Module, forward: nn.Module, rows: Tensor) -> Tensor:
    """All gradients of one pass, in one row; chance is the same every time."""
    torch.manual_seed(1)
    network.zero_grad(set_to_none=True)
    forward(rows).square().sum().backward()
    return torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])


def wrapping(group: Group) -> dict[str, Any]:
    """What wrapping leaves alone, and what gradients come to."""
    torch.manual_seed(group.rank)  # other weights everywhere: the leader's count
    network = Noisy()
    rows = torch.randn(12, 64, generator=torch.Generator().manual_seed(group.rank))
    buffers = [each.clone() for each in network.buffers()]
    state = torch.get_rng_state()
    forward = group.wrap(network, (rows,))
    is_untouched = {
        "random": bool(torch.equal(state, torch.get_rng_state())),
        "buffers": all(map(torch.equal, buffers, network.buffers())),
        "gradients": all(each.grad is None for each in network.parameters()),
    }
    first, second = (gradients(network, forward, rows) for _ in range(2))
    with group.unsynced(forward):
        own = gradients(network, forward, rows)
    mean = group.sum(own.clone().double()) / group.count
    return {
        "is_untouched": is_untouched,
        "is_same_every_time": bool(torch.equal(first, second)),
        "first": first.double().sum().item(),
        "own": own.double().sum().item(),
        "furthest_from_mean": (first.double() - mean).abs().max().item(),
    }


def unused(group: Group) -> str:
    """How a network is refused of which a part does nothing."""
    try:
        group.wrap(Idle(), (torch.ones(2, 2),))
    except StepFailed as error:
        return error.what
    return ""


def handed_out(group: Group) -> dict[str, list[Any]]:
    """The leader's tensors, as this process has them: type, shape and values."""
    given = {
        "halves": torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(2**40),
        "none": torch.empty(0, 3),
        "strided": torch.arange(6.0).reshape(2, 3).t(),
    }
    found = group.tensors(given if group.is_leader else None)
    return {name: [str(each.dtype), list(each.shape), each.tolist()] for name, each in found.items()}


def main(rank: int, count: int, port: int) -> None:
    """Join, and try everything."""
    torch.set_num_threads(1)
    place = Place(rank, count, rank, count, "127.0.0.1", port)
    meeting = Meeting(place)
    group = Group.joined(place, meeting.store, CPU)
    report = {
        "backend": group.backend,
        "word": group.word({"said": [1, None, "ü"]} if group.is_leader else "not heard"),
        "nothing": group.word(None),
        "sum": group.sum(torch.tensor([rank, 0.1], dtype=torch.float64)).tolist(),
        "tensors": handed_out(group),
        "wrapping": wrapping(group),
        "unused": unused(group),
        "obeyed": group.obeyed(15 if group.is_leader else None),
    }
    sys.stdout.write(json.dumps(report))
    group.leave()
    meeting.leave()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
