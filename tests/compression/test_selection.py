"""Which units stay: targets are met with no more than the order asks for, and every count is that of a real network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from unit_groups import Chain, chain, each, group, images

from mlctl.compression.pruning.dependencies import Arithmetic, Dependencies, Place, UnitGroup
from mlctl.compression.pruning.removal_order import RemovalOrder, Scope
from mlctl.compression.pruning.selection import (
    Counted,
    KeptCost,
    KeptUnits,
    Rules,
    Selection,
    Target,
    Whole,
    select,
    target,
    whole,
)
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.errors import StepFailed
from mlctl.recipe.prune import StructuredPruning

Scores = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """A chain on no device, scores of its units, and rules."""

    widths: tuple[int, ...]
    costs: UnitCosts
    scores: Scores
    rules: Rules

    @property
    def original(self) -> Whole:
        return whole(self.costs)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hidden = draw(st.lists(st.integers(2, 17), min_size=1, max_size=4))
    widths = (draw(st.integers(1, 5)), *hidden, draw(st.integers(1, 5)))
    network, found = chain(widths, device="meta")
    # Few values, so that many are equal.
    scores = {
        each.name: np.array(draw(st.lists(st.integers(0, 6), min_size=each.count, max_size=each.count)), np.float64)
        for each in found.groups
    }
    protect = draw(st.sampled_from([(), ("layers.0",)]))
    scopes: st.SearchStrategy[Scope] = st.sampled_from(["global", "layer"])
    return Case(widths, UnitCosts(found, network), scores, Rules(draw(scopes), draw(st.integers(1, 5)), protect))


counted: st.SearchStrategy[Counted] = st.sampled_from(["parameters", "multiply-adds"])
shares = st.floats(0.05, 0.95)


def left(case: Case, found: Selection) -> tuple[int, ...]:
    """Widths of the chain that a selection leaves."""
    hidden = [len(found.kept.get(f"layers.{number}", range(width))) for number, width in enumerate(case.widths[1:-1])]
    return (case.widths[0], *hidden, case.widths[-1])


def assert_counts_are_real(found: Selection, widths: Sequence[int]) -> None:
    """The figures are those of a chain that is built with these widths."""
    network = Chain(widths)
    assert found.parameters == sum(each.numel() for each in network.parameters())
    assert found.multiply_adds == sum(a * b for a, b in pairwise(widths))
    assert found.units == sum(widths[1:-1])


def kept_or_all(case: Case, found: Selection, name: str) -> set[int]:
    return set(found.kept.get(name, np.arange(case.costs.groups[name].count)).tolist())


def reachable(case: Case, what: Counted, most: float) -> bool:
    """Whether so little is left where every layer that may lose units has as few as it may."""
    least = list(case.widths)
    for number, width in enumerate(case.widths[1:-1], 1):
        is_free = width >= case.rules.round_to and not (case.rules.protect and number == 1)
        least[number] = case.rules.round_to if is_free else width
    products = sum(a * b for a, b in pairwise(least))
    left = products + sum(least[1:]) if what == "parameters" else products
    has_any = any(width >= case.rules.round_to for width in case.widths[2 if case.rules.protect else 1 : -1])
    return has_any and left <= most * (1 + 1e-9)


@given(cases(), counted, shares)
def test_a_cost_is_met_and_every_rule_kept(case: Case, what: Counted, share: float) -> None:
    total = case.original.parameters if what == "parameters" else case.original.multiply_adds
    wanted = KeptCost(what, share, total)
    if not reachable(case, what, share * total):
        with pytest.raises(StepFailed, match=r"as few units as it can|no layer can lose a unit"):
            select(case.costs, case.scores, wanted, case.rules)
        return
    found = select(case.costs, case.scores, wanted, case.rules)
    count = found.parameters if what == "parameters" else found.multiply_adds
    assert count <= share * total * (1 + 1e-6)
    widths = left(case, found)
    assert_counts_are_real(found, widths)
    for number, (before, after) in enumerate(zip(case.widths[1:-1], widths[1:-1], strict=True)):
        name = f"layers.{number}"
        assert found.removed.get(name, 0) == before - after
        if before < case.rules.round_to or (case.rules.protect and number == 0):
            assert after == before
            continue
        assert after >= case.rules.round_to
        assert after % case.rules.round_to == 0
        kept = found.kept.get(name)
        if kept is not None:
            assert (np.diff(kept) > 0).all()
            gone = np.delete(case.scores[name], kept)
            assert case.scores[name][kept].min() >= gone.max()


@given(cases(), counted, shares, shares)
def test_a_smaller_target_keeps_a_subset(case: Case, what: Counted, one: float, other: float) -> None:
    total = case.original.parameters if what == "parameters" else case.original.multiply_adds
    try:
        less, more = (
            select(case.costs, case.scores, KeptCost(what, share, total), case.rules) for share in sorted((one, other))
        )
    except StepFailed:
        assume(False)
    for name in case.costs.groups:
        assert kept_or_all(case, less, name) <= kept_or_all(case, more, name)


@given(cases(), shares)
def test_units_of_the_whole_network_go_one_by_one_from_the_least_important(case: Case, share: float) -> None:
    rules = Rules("global", 1, case.rules.protect)
    free = [name for name in case.scores if not (rules.protect and name == "layers.0")]
    assume(free)
    most = int(share * sum(case.costs.groups[name].count for name in free) + 0.5 + 1e-9)
    assume(most >= len(free))
    found = select(case.costs, case.scores, KeptUnits(share, case.original.units), rules)
    # One after the other: the smallest score whose group has another unit.
    stays = {name: sorted(case.scores[name]) for name in free}
    while sum(map(len, stays.values())) > most:
        name = min((name for name in free if len(stays[name]) > 1), key=lambda name: stays[name][0])
        stays[name].pop(0)
    kept = [case.scores[name][sorted(kept_or_all(case, found, name))] for name in free]
    # Which of equals went may differ, and not what they were worth.
    assert sorted(np.concatenate(kept)) == sorted(score for scores in stays.values() for score in scores)


@given(cases(), st.floats(0.05, 0.95))
def test_every_layer_loses_the_same_ratio(case: Case, ratio: float) -> None:
    rules = Rules("layer", case.rules.round_to)
    able = [width for width in case.widths[1:-1] if width >= rules.round_to]
    assume(able)
    wanted = KeptUnits(1 - ratio, case.original.units)
    if any(width * (1 - ratio) < 0.5 - 1e-6 for width in able):
        with pytest.raises(StepFailed, match=r"leaves no unit of layers\.\d"):
            select(case.costs, case.scores, wanted, rules)
        return
    found = select(case.costs, case.scores, wanted, rules)
    for before, after in zip(case.widths[1:-1], left(case, found)[1:-1], strict=True):
        if before >= rules.round_to:
            # To the nearest unit, and from there down to a multiple.
            assert after <= max(before * (1 - ratio) + 0.5 + 1e-6, rules.round_to)
            assert after > before * (1 - ratio) - 0.5 - 1e-6 - (rules.round_to - 1)


def test_a_ratio_that_empties_a_layer_names_the_largest_that_does_not() -> None:
    network, found = chain((3, 16, 8, 4, 2))
    costs = UnitCosts(found, network)
    scores = {each.name: np.arange(each.count, dtype=np.float64) for each in found.groups}
    original = whole(costs).units
    with pytest.raises(StepFailed, match=r"a ratio of 0\.9 leaves no unit of layers\.2, which has 4") as failed:
        select(costs, scores, KeptUnits(0.1, original), Rules("layer"))
    assert failed.value.next == "set `ratio` to 0.875 or less, or name the layer under `protect`"
    kept = select(costs, scores, KeptUnits(1 - 0.875, original), Rules("layer")).kept
    assert {name: units.tolist() for name, units in kept.items()} == {
        "layers.0": [14, 15],
        "layers.1": [7],
        "layers.2": [3],
    }
    protecting = select(costs, scores, KeptUnits(0.1, original), Rules("layer", 1, ("layers.2",)))
    assert protecting.removed == {"layers.0": 14}


def test_a_target_out_of_reach_says_how_far_one_can_go() -> None:
    network, found = chain((3, 4, 4, 2))
    costs = UnitCosts(found, network)
    scores = {each.name: np.arange(each.count, dtype=np.float64) for each in found.groups}
    original = whole(costs)
    # One unit each leaves 3 + 1 + 1 + 1 + 2 + 2 of 46 parameters.
    with pytest.raises(StepFailed, match=r"0\.1 of the parameters are to stay, and 0\.218 stay") as failed:
        select(costs, scores, KeptCost("parameters", 0.1, original.parameters))
    assert failed.value.next.startswith("set `parameters` to 0.218 or more")
    assert select(costs, scores, KeptCost("parameters", 0.218, original.parameters)).parameters == 10
    with pytest.raises(StepFailed, match="1 units are to stay, and 2 stay") as failed:
        select(costs, scores, KeptUnits(0.1, original.units))
    assert failed.value.next.startswith("set `ratio` to 0.75 or less")
    assert select(costs, scores, KeptUnits(0.25, original.units)).units == 2


def test_equals_go_from_every_layer_alike() -> None:
    network, found = chain((3, 8, 16, 2))
    scores = {each.name: np.ones(each.count) for each in found.groups}
    costs = UnitCosts(found, network)
    assert select(costs, scores, KeptUnits(0.5, whole(costs).units)).removed == {"layers.0": 4, "layers.1": 8}


def test_a_group_without_scores_stays_whole() -> None:
    network, found = chain((3, 8, 8, 2))
    costs = UnitCosts(found, network)
    wanted = KeptUnits(0.5, whole(costs).units)
    assert select(costs, {"layers.1": np.arange(8.0)}, wanted).removed == {"layers.1": 4}


def test_a_network_of_which_nothing_may_go_says_why() -> None:
    network, found = chain((3, 2))
    costs = UnitCosts(found, network)
    with pytest.raises(StepFailed, match=r"no layer can lose a unit \(layers\.0: is the answer\)"):
        select(costs, {}, KeptUnits(0.5, whole(costs).units))


@pytest.mark.parametrize(
    ("protect", "removed"),
    [
        (("layers.1",), {"layers.2"}),  # its own units, and those that it reads
        (("layers.[01]",), {"layers.2"}),
        (("layers",), set()),  # everything inside
        (("layers.3",), {"layers.0", "layers.1"}),
        ((), {"layers.0", "layers.1", "layers.2"}),
    ],
)
def test_protected_layers_stay_whole(protect: tuple[str, ...], removed: set[str]) -> None:
    network, found = chain((3, 8, 8, 8, 2))
    costs = UnitCosts(found, network)
    scores = {each.name: np.arange(8.0) for each in found.groups}
    wanted, rules = KeptUnits(0.5, whole(costs).units), Rules("layer", 1, protect)
    if not removed:
        with pytest.raises(StepFailed, match="no layer can lose a unit"):
            select(costs, scores, wanted, rules)
    else:
        assert set(select(costs, scores, wanted, rules).removed) == removed


def test_a_protected_layer_that_is_not_there_is_an_error_with_a_suggestion() -> None:
    network, found = chain((3, 8, 2))
    costs = UnitCosts(found, network)
    with pytest.raises(
        StepFailed, match=r"names layers\.7, and the network has no such layer; did you mean 'layers\.\d'"
    ):
        select(costs, {"layers.0": np.arange(8.0)}, KeptUnits(0.5, whole(costs).units), Rules(protect=("layers.7",)))


def test_what_groups_share_is_counted_once() -> None:
    class Joined(nn.Module):
        """Two layers whose answers stand side by side before a third, and a head that is tied to an embedding."""

        def __init__(self, left: int = 4, right: int = 6, width: int = 5) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, left), nn.Linear(3, right)
            self.norm = nn.BatchNorm1d(left + right)
            self.join = nn.Linear(left + right, width, bias=False)
            self.embedding, self.head = nn.Embedding(7, width), nn.Linear(width, 7, bias=False)
            self.head.weight = self.embedding.weight

    network = Joined()
    sides = [
        UnitGroup(
            name,
            "units",
            (
                *(Place(f"{name}.{tensor}", 0, each(count)) for tensor in ("weight", "bias")),
                *(
                    Place(f"norm.{tensor}", 0, each(count, start=start))
                    for tensor in ("weight", "bias", "running_mean")
                ),
                Place("join.weight", 1, each(count, start=start)),
            ),
        )
        for name, count, start in (("left", 4, 0), ("right", 6, 4))
    ]
    width = group("join", 5, ("join.weight", 0), ("embedding.weight", 1), ("head.weight", 1))
    arithmetic = (
        Arithmetic("join", 50, "join.weight", None),
        Arithmetic("head", 35, "head.weight", None),
        Arithmetic("scores", 40, None, "join"),
        Arithmetic("other", 11, None, None),
    )
    costs = UnitCosts(Dependencies((*sides, width), {}, arithmetic, ()), network)
    for kept in ({}, {"left": 2}, {"left": 1, "right": 3}, {"left": 3, "right": 1, "join": 2}):
        left, right, inner = (kept.get(name, whole) for name, whole in (("left", 4), ("right", 6), ("join", 5)))
        cost = costs.cost(kept)
        assert cost.parameters == sum(each.numel() for each in Joined(left, right, inner).parameters())
        assert cost.multiply_adds == (left + right) * inner + 7 * inner + 8 * inner + 11
        assert cost.units == left + right + inner
        assert (costs.parameters(kept), costs.multiply_adds(kept)) == (cost.parameters, cost.multiply_adds)


def test_units_of_several_channels_cost_all_of_them() -> None:
    network, found = images()
    # One of two pairs leaves 2 of 4 channels, one of three leaves 2 of 6.
    assert UnitCosts(found, network).cost({"first": 1, "second": 1}).parameters == (
        2 * 2 * 9 + 2 + 2 * 2 + 2 * 1 * 9 + 2 + 3 * 2 + 3
    )


def settings_of(**asked: object) -> StructuredPruning:
    return StructuredPruning.model_validate(asked)


@pytest.mark.parametrize(
    ("asked", "done", "wanted"),
    [
        ({"ratio": 0.6}, 1.0, KeptUnits(0.4, {"a": 10})),
        ({"ratio": 0.6}, 0.5, KeptUnits(0.7, {"a": 10})),
        ({"parameters": 0.2}, 0.25, KeptCost("parameters", 0.8, 300)),
        ({"flops": 0.2}, 1.0, KeptCost("multiply-adds", 0.2, 700)),
        ({"latency": 0.5}, 1.0, None),
        ({"layers": 0.5}, 1.0, None),
    ],
)
def test_targets_grow_in_equal_steps(asked: Mapping[str, float], done: float, wanted: Target | None) -> None:
    found = target(settings_of(**asked), Whole({"a": 10}, 300, 700), done)
    if found is None or wanted is None:
        assert found is wanted
        return
    assert type(found) is type(wanted)
    assert found.share == pytest.approx(wanted.share)
    assert {**vars(found), "share": 0} == {**vars(wanted), "share": 0}


@given(cases(), shares, st.integers(2, 4), st.sampled_from(["units", "parameters", "multiply-adds"]))
def test_steps_end_where_one_step_ends(case: Case, share: float, steps: int, what: str) -> None:
    asked = {"units": "ratio", "parameters": "parameters", "multiply-adds": "flops"}[what]
    pruning = settings_of(**{asked: 1 - share if what == "units" else share})
    original, widths, ids = case.original, case.widths, {name: np.arange(len(s)) for name, s in case.scores.items()}
    rules = Rules("global")
    try:
        final = target(pruning, original)
        assert final is not None
        once = select(case.costs, case.scores, final, rules)
    except StepFailed:
        assume(False)
    for step in range(1, steps + 1):
        network, found = chain(widths, device="meta")
        # As the tracing of a network has it: what is down to one unit is no group.
        several = tuple(each for each in found.groups if each.count > 1)
        costs = UnitCosts(Dependencies(several, found.fixed, found.arithmetic, ()), network)
        wanted = target(pruning, original, step / steps)
        assert wanted is not None
        done = select(costs, {each.name: case.scores[each.name][ids[each.name]] for each in several}, wanted, rules)
        for name, units in done.kept.items():
            ids[name] = ids[name][units]
        widths = (widths[0], *(len(ids[f"layers.{number}"]) for number in range(len(widths) - 2)), widths[-1])
    # Equals may go from another layer, for shares are then those of what is left: the network is as small either way.
    if what == "units":
        assert sum(widths[1:-1]) == once.units
    if len({score for scores in case.scores.values() for score in scores}) == once.units + sum(once.removed.values()):
        assert {name: units.tolist() for name, units in ids.items()} == {
            name: sorted(kept_or_all(case, once, name)) for name in ids
        }


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_layers_shrink_alike_at_every_point(counts: list[int]) -> None:
    groups = [group(f"layer{number}", count, ("weight", 0)) for number, count in enumerate(counts)]
    order = RemovalOrder(groups, {each.name: np.zeros(each.count) for each in groups}, "layer", 1)
    ratios = {(lost + 0.5) / count for count in counts for lost in range(count - 1)}
    # Where a ratio takes half a unit more, and only there, the nearest number is another.
    for stop, ratio in enumerate(sorted(ratios), 1):
        wanted = [max(count - int(ratio * count + 0.5 + 1e-9), 1) for count in counts]
        assert list(order.kept(stop).values()) == wanted
    assert list(order.kept(0).values()) == counts


def test_steps_that_need_no_more_leave_a_network_as_it_is() -> None:
    network, _ = chain((1, 1, 1), device="meta")
    costs = UnitCosts(Dependencies((), {}, (), ()), network)
    assert not select(costs, {}, KeptCost("parameters", 0.75, 7)).kept
    assert not select(costs, {}, KeptUnits(0.5, {"layers.0": 2}), Rules("layer")).kept
    assert not select(costs, {}, KeptUnits(0.5, {"layers.0": 2})).kept


def test_the_search_looks_at_few_of_many_thousand_units() -> None:
    count, wide = 20, 1000
    groups = [group(f"layer{number}", wide, (f"layer{number}.weight", 0)) for number in range(count)]
    dice = np.random.default_rng(0)
    order = RemovalOrder(groups, {each.name: dice.random(wide) for each in groups}, "global", 1)
    asked = 0

    def is_enough(kept: Mapping[str, int]) -> bool:
        nonlocal asked
        asked += 1
        return sum(kept.values()) <= 7_777

    found = order.first(is_enough)
    assert found is not None
    assert sum(found.values()) == 7_777
    assert asked <= 16  # bisection: two to the 15th are more than 20,000 units
