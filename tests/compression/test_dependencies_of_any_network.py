"""Random networks, and random units that stay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dependencies import answers, zeroed
from torch import Tensor, nn

from mlctl.compression.pruning.dependencies import Dependencies, Indices, dependencies, structure_of
from mlctl.models.structure import composed, restructured

# As in `test_dependencies`: sums of some hundreds of products near 1 through eight layers.
TOLERANCE = 1e-4

IMAGE = (2, 4, 4)


@dataclass(frozen=True)
class Step:
    """One layer: of what kind, how many channels it gives, and which of the results before it it takes."""

    kind: str
    channels: int
    takes: int
    beside: int


class Drawn(nn.Module):
    """Layers that each read one result or two before them, and a linear layer over the last."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList()
        widths = [IMAGE[0]]
        for step in steps:
            width = widths[step.takes % len(widths)]
            other = widths[step.beside % len(widths)]
            self.layers.append(_layer(step, width, other))
            widths.append(_width(step, width, other))
        self.head = nn.Linear(widths[-1] * IMAGE[1] * IMAGE[2], 3)

    def forward(self, image: Tensor) -> Tensor:
        results = [image]
        for step, layer in zip(self.steps, self.layers, strict=True):
            taken, beside = results[step.takes % len(results)], results[step.beside % len(results)]
            if step.kind == "cat":
                results.append(torch.cat((layer(taken), beside), 1))
            elif step.kind in ("add", "multiply"):
                results.append(layer(taken) + beside if step.kind == "add" else layer(taken) * torch.sigmoid(beside))
            else:
                results.append(torch.relu(layer(taken)))
        answers: Tensor = self.head(results[-1].flatten(1))
        return answers


def _width(step: Step, width: int, other: int) -> int:
    return {"cat": step.channels + other, "add": other, "multiply": other, "depthwise": width}.get(
        step.kind, step.channels
    )


def _layer(step: Step, width: int, other: int) -> nn.Module:
    if step.kind == "depthwise":
        return nn.Conv2d(width, width, 3, padding=1, groups=width)
    if step.kind == "norm":
        return nn.Sequential(nn.Conv2d(width, step.channels, 1, bias=False), nn.BatchNorm2d(step.channels))
    return nn.Conv2d(width, other if step.kind in ("add", "multiply") else step.channels, 3, padding=1)


steps = st.builds(
    Step,
    kind=st.sampled_from(["plain", "norm", "cat", "add", "multiply", "depthwise"]),
    channels=st.integers(1, 5),
    takes=st.integers(0, 7),
    beside=st.integers(0, 7),
)


def drawn_units(found: Dependencies, data: st.DataObject) -> dict[str, Indices]:
    """Some units of every group, ascending."""
    kept = {}
    for each in found.groups:
        some = data.draw(st.sets(st.integers(0, each.count - 1), min_size=1), label=each.name)
        kept[each.name] = np.array(sorted(some), np.int64)
    return kept


@settings(max_examples=60)
@given(drawn=st.lists(steps, min_size=1, max_size=7), seed=st.integers(0, 2**16), data=st.data())
def test_whatever_stays_answers_as_the_whole_with_the_rest_at_zero(
    drawn: list[Step], seed: int, data: st.DataObject
) -> None:
    torch.manual_seed(seed)
    network = Drawn(drawn).eval()
    rows = torch.randn(2, *IMAGE)
    found = dependencies(network, (rows,))
    kept = drawn_units(found, data)
    expected = answers(zeroed(network, found, kept), rows)
    cut = restructured(network, structure_of(network, found, kept))
    torch.testing.assert_close(answers(cut, rows), expected, rtol=TOLERANCE, atol=TOLERANCE)


@settings(max_examples=30)
@given(drawn=st.lists(steps, min_size=1, max_size=6), seed=st.integers(0, 2**16), data=st.data())
def test_two_cuts_are_one_cut_of_the_original(drawn: list[Step], seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    network = Drawn(drawn).eval()
    rows = torch.randn(2, *IMAGE)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    whole = None
    for _ in range(2):
        found = dependencies(network, (rows,))
        structure = structure_of(network, found, drawn_units(found, data))
        restructured(network, structure)
        whole = composed(whole, structure)
    assert whole is not None
    once = Drawn(drawn).eval()
    once.load_state_dict(weights)
    restructured(once, whole)
    assert torch.equal(answers(once, rows), answers(network, rows))
