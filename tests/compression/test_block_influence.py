"""Blocks that change little are found, and a list of blocks is never emptied."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from unit_groups import complete

from mlctl.compression.pruning.block_influence import block_influences, removable_blocks
from mlctl.errors import StepFailed
from mlctl.training.batches import Batch


class Adding(nn.Module):
    """Adds a multiple of a fixed turn of what comes in; writes over its input where asked to."""

    def __init__(self, share: float, width: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.share = share
        self.turn = nn.Linear(width, width)
        self.in_place = in_place

    def forward(self, values: Tensor) -> Tensor:
        change = self.share * self.turn(values)
        return values.add_(change) if self.in_place else values + change


def batches(*shape: int) -> list[Batch]:
    dice = torch.Generator().manual_seed(0)
    return [Batch((torch.randn(size, *shape, generator=dice),), torch.zeros(size)) for size in (5, 3)]


def turned(before: Tensor, after: Tensor, vectors: int) -> float:
    """1 - cosine in float64, over `vectors` of each."""
    first, second = (each.double().reshape(vectors, -1).numpy() for each in (before, after))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return float(1 - cosines.mean())


@pytest.mark.parametrize(("shape", "vectors"), [((4, 6), 32), ((6,), 8), ((2, 3, 6), 8)])
@pytest.mark.parametrize("in_place", [False, True])
def test_influence_is_how_far_vectors_turn(shape: tuple[int, ...], vectors: int, in_place: bool) -> None:
    torch.manual_seed(0)
    blocks = [Adding(share, 6, in_place=in_place) for share in (0.5, 0.01)]
    network = nn.Sequential(nn.Linear(6, 6), *blocks)
    network.train()
    rows = batches(*shape)
    found = block_influences(complete(network), ("1", "2"), rows)
    with torch.no_grad():
        at_first = network[0](torch.cat([batch.inputs[0] for batch in rows]))
        between = at_first + 0.5 * blocks[0].turn(at_first)
        at_last = between + 0.01 * blocks[1].turn(between)
    # Activations are float32: a cosine is off by some 1e-7.
    assert found == pytest.approx(
        {"1": turned(at_first, between, vectors), "2": turned(between, at_last, vectors)}, rel=1e-3, abs=1e-6
    )
    assert found["2"] < found["1"]
    assert network.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_vectors_of_zeros_are_alike() -> None:
    network = nn.Sequential(nn.Identity(), nn.Identity())
    assert block_influences(complete(network), ("0",), [Batch((torch.zeros(2, 3),), torch.zeros(2))]) == {"0": 0.0}


def test_blocks_that_give_more_than_one_answer_are_judged_by_the_first() -> None:
    class Pair(nn.Module):
        def forward(self, values: Tensor) -> tuple[Tensor, None]:
            return -values, None

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, values: Tensor) -> Tensor:
            found: Tensor = self.pair(values)[0]
            return found

    assert block_influences(complete(First()), ("pair",), batches(3))["pair"] == pytest.approx(2)


def test_the_blocks_that_change_least_go() -> None:
    influences = {"a.0": 0.3, "a.1": 0.1, "a.2": 0.2, "a.3": 0.4}
    assert removable_blocks(influences, 0.25) == ("a.1",)
    assert removable_blocks(influences, 0.5) == ("a.1", "a.2")
    assert removable_blocks(influences, 0.6) == ("a.1", "a.2")  # never more than the share
    assert removable_blocks(influences, 0.5, protected=("a.2.norm", "a")) == ("a.0", "a.1")


def test_of_equals_the_last_go_first() -> None:
    assert removable_blocks({"a.0": 0.1, "a.1": 0.1, "a.2": 0.1}, 0.67) == ("a.1", "a.2")


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 5)).map(lambda place: f"{place[0]}.{place[1]}"),
        st.sampled_from([0.1, 0.2, 0.3]),
        min_size=1,
    ),
    st.floats(0.01, 0.99),
)
def test_no_list_is_emptied(influences: dict[str, float], share: float) -> None:
    lists = {name.partition(".")[0] for name in influences}
    most = len(influences) - len(lists)
    count = int(share * len(influences) * (1 + 1e-9))
    if not 1 <= count <= most:
        with pytest.raises(StepFailed, match="taken out"):
            removable_blocks(influences, share)
        return
    gone = removable_blocks(influences, share)
    assert len(set(gone)) == count
    assert {name.partition(".")[0] for name in influences if name not in gone} == lists


def test_shares_that_cannot_be_name_those_that_can() -> None:
    influences = {f"a.{number}": 0.1 for number in range(4)}
    with pytest.raises(StepFailed, match=r"0\.9 of 4 blocks are 3") as failed:
        removable_blocks(influences, 0.9, protected=("a.0", "a.1"))
    assert failed.value.next == "set `layers` from 0.25 to 0.5"
    with pytest.raises(StepFailed, match=r"0\.1 of 4 blocks are 0, and from 1 to 3 can be taken out"):
        removable_blocks(influences, 0.1)
    assert len(removable_blocks(influences, 0.25)) == 1
    with pytest.raises(StepFailed, match="no block that can be taken out"):
        removable_blocks({}, 0.5)
