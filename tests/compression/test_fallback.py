"""The search for the fewest nodes that must stay float."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, log2, nan

import onnx
import pytest
from float_graphs import perceptron
from hypothesis import given
from hypothesis import strategies as st

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.fallback import Kept, keep_accurate
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.sensitivity import Sensitivity, sensitivities
from mlctl.events import Event, Note


@dataclass(frozen=True)
class Named:
    """Stands for a quantizer: its models say in their producer's name which nodes were kept."""

    count: int

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"n{place}" for place in range(self.count))

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        return onnx.ModelProto(producer_name=" ".join(sorted(kept)))

    def order(self) -> Sequence[Sensitivity]:
        """The last node is the most harmful."""
        return [Sensitivity(node, float(place)) for place, node in enumerate(reversed(self.nodes))]


def kept_in(model: onnx.ModelProto) -> frozenset[str]:
    return frozenset(model.producer_name.split())


def search(count: int, loss: Callable[[int], float], max_drop: float = 0.01) -> Kept:
    quantizer = Named(count)
    return keep_accurate(
        quantizer, drop=lambda model: loss(len(kept_in(model))), max_drop=max_drop, sensitivities=quantizer.order
    )


def test_a_model_that_loses_little_is_taken_as_it_is() -> None:
    def never() -> Sequence[Sensitivity]:
        raise AssertionError("nobody needs to know")

    found = keep_accurate(Named(5), drop=lambda model: 0.01, max_drop=0.01, sensitivities=never)
    assert (found.kept, found.drop, found.evaluations, found.is_met) == ((), 0.01, 1, True)


@given(count=st.integers(2, 300), data=st.data())
def test_the_fewest_nodes_are_found_with_few_evaluations(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(1, count - 1))
    found = search(count, lambda kept: 0.0 if kept >= needed else 1.0)
    assert found.is_met
    assert [node for node, _ in found.kept] == [f"n{count - 1 - place}" for place in range(needed)]
    assert [decibels for _, decibels in found.kept] == [float(place) for place in range(needed)]
    assert kept_in(found.model) == {node for node, _ in found.kept}
    # The whole graph once; up to the first power of two that suffices; halving between that and the one before.
    assert found.evaluations <= 2 + 2 * ceil(log2(needed + 1))


@given(losses=st.lists(st.floats(0, 1), min_size=2, max_size=40), bound=st.floats(0, 1))
def test_what_is_found_was_measured_whatever_the_losses(losses: list[float], bound: float) -> None:
    measured: dict[int, float] = {}

    def loss(kept: int) -> float:
        assert kept not in measured
        measured[kept] = losses[kept]
        return losses[kept]

    found = search(len(losses), loss, bound)
    assert measured[len(found.kept)] == found.drop
    assert found.is_met == (found.drop <= bound)
    assert found.evaluations == len(measured)
    if found.is_met:
        assert not found.kept or measured[len(found.kept) - 1] > bound
    else:
        assert found.drop == min(measured.values())
        assert len(losses) - 1 in measured


@pytest.mark.parametrize("loss", [1.0, inf, nan])
def test_a_bound_that_cannot_be_met_leaves_the_best(loss: float) -> None:
    found = search(9, lambda kept: 0.5 if kept == 4 else loss)
    assert (found.is_met, len(found.kept), found.drop) == (False, 4, 0.5)


def test_one_node_alone_cannot_go_back() -> None:
    found = search(1, lambda kept: 1.0)
    assert (found.is_met, found.kept, found.evaluations) == (False, (), 1)


def test_every_measurement_is_told() -> None:
    told = list[Event]()
    quantizer = Named(3)
    keep_accurate(
        quantizer,
        drop=lambda model: 0.0 if kept_in(model) else 0.25,
        max_drop=0.1,
        sensitivities=quantizer.order,
        tell=told.append,
    )
    assert told == [Note("0 of 3 nodes in float: loss 0.25"), Note("1 of 3 nodes in float: loss 0")]


def test_a_real_network_comes_under_its_bound() -> None:
    known = perceptron()
    quantizer = DynamicQuantizer(known.model, WeightForm())
    expected = known.answers()

    def drop(model: onnx.ModelProto) -> float:
        return float(abs(known.answers(model) - expected).max())

    whole = drop(quantizer.quantized())
    found = keep_accurate(
        quantizer,
        drop=drop,
        max_drop=whole * 0.9,
        sensitivities=lambda: sensitivities(quantizer, known.model, known.rows, threads=1),
    )
    assert found.is_met
    assert 1 <= len(found.kept) <= 2
    assert drop(found.model) == found.drop <= whole * 0.9
