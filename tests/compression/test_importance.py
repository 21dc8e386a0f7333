"""What units are worth, against the definitions written out in float64."""

from collections.abc import Mapping
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from unit_groups import chain, complete, each, group, images

from mlctl.compression.pruning.dependencies import Dependencies, Place, UnitGroup
from mlctl.compression.pruning.importance import KINDS, LOOKS_AT_ROWS, Kind, importance
from mlctl.compression.pruning.importance_weights import batch_norm_scale, lamp, weight_norms
from mlctl.errors import StepFailed
from mlctl.recipe.prune import StructuredPruning
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Batch

# Sums of float32 numbers, a few dozen here: off by a millionth of the largest.
CLOSE = 1e-5


def values(network: nn.Module) -> dict[str, npt.NDArray[np.float64]]:
    """All weights in float64."""
    return {name: tensor.detach().double().numpy() for name, tensor in network.state_dict().items()}


def assert_close(found: Mapping[str, npt.NDArray[np.float64]], wanted: Mapping[str, npt.ArrayLike]) -> None:
    assert list(found) == list(wanted)
    for name, scores in found.items():
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, np.asarray(wanted[name], np.float64), rtol=CLOSE, atol=1e-9)


def test_every_kind_of_a_recipe_is_in_the_table() -> None:
    annotation = StructuredPruning.model_fields["importance"].annotation
    assert set(get_args(annotation)) == set(KINDS) == set(get_args(Kind))


@pytest.mark.parametrize("power", [1, 2])
def test_a_unit_is_as_long_as_the_mean_of_its_rows_and_columns(power: int) -> None:
    network, found = chain((3, 4, 5, 2))
    weights = values(network)
    wanted = {}
    for number in (0, 1):
        rows = np.linalg.norm(weights[f"layers.{number}.weight"], power, axis=1)
        columns = np.linalg.norm(weights[f"layers.{number + 1}.weight"], power, axis=0)
        wanted[f"layers.{number}"] = (rows + columns) / (rows + columns).mean()
    assert_close(weight_norms(network, found, power), wanted)


def test_channels_of_groups_are_judged_together() -> None:
    network, found = images()
    weights = values(network)
    first = np.array(
        [
            np.linalg.norm(weights["first.weight"][[channel, channel + 2]])
            + np.linalg.norm(weights["second.weight"][:, channel])
            for channel in (0, 1)
        ]
    )
    np.testing.assert_allclose(weight_norms(network, found, 2)["first"], first / first.mean(), rtol=CLOSE)


def test_biases_and_normalisations_say_nothing_of_a_units_length() -> None:
    network, found = images()
    before = weight_norms(network, found, 2)
    with torch.no_grad():
        for parameter in (network.first.bias, network.norm.weight, network.norm.bias):
            assert parameter is not None
            parameter.mul_(100)
    assert_close(weight_norms(network, found, 2), before)


def test_a_layer_norm_over_images_says_nothing_of_a_units_length() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 3, 1, bias=False)
            self.norm = nn.LayerNorm([3, 4, 4])

    network = Normed()
    nn.init.uniform_(network.norm.weight, 1, 9)
    found = Dependencies((group("first", 3, ("first.weight", 0), ("norm.weight", 0), ("norm.bias", 0)),), {}, (), ())
    sizes = np.abs(values(network)["first.weight"]).ravel()
    assert_close(weight_norms(network, found, 2), {"first": sizes / sizes.mean()})


def test_a_unit_that_has_nothing_but_a_scale_is_judged_by_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([1.0, -3.0]))

    found = Dependencies((group("", 2, ("scale", 0)),), {}, (), ())
    assert_close(weight_norms(Scaled(), found, 2), {"": [0.5, 1.5]})


def test_a_tied_weight_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(6, 3)
            self.inner = nn.Linear(3, 2)
            self.head = nn.Linear(3, 6, bias=False)
            self.head.weight = self.embedding.weight

    network = Tied()
    axes = [("embedding.weight", 1), ("inner.weight", 1), ("head.weight", 1)]
    once = Dependencies((group("embedding", 3, *axes[:2]),), {}, (), ())
    twice = Dependencies((group("embedding", 3, *axes),), {}, (), ())
    assert_close(weight_norms(network, twice, 2), weight_norms(network, once, 2))
    assert_close(lamp(network, twice), lamp(network, once))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.25]), min_size=2, max_size=9))
def test_lamp_is_the_share_of_those_no_smaller(sizes: list[float]) -> None:
    network = nn.Sequential(nn.Linear(1, len(sizes), bias=False))
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.tensor(sizes)[:, None])
    found = Dependencies((group("0", len(sizes), ("0.weight", 0)),), {}, (), ())
    squares = [size**2 for size in sizes]
    wanted = [own / sum(other for other in squares if other >= own) if own else 0.0 for own in squares]
    np.testing.assert_allclose(lamp(network, found)["0"], wanted, rtol=CLOSE)


def test_batch_norm_judges_by_scale_and_leaves_other_groups_whole() -> None:
    network, found = images()
    with torch.no_grad():
        network.norm.weight.copy_(torch.tensor([0.5, -2.0, 1.5, 0.25]))
    scored = importance("batch-norm", complete(network), found, CrossEntropy())
    assert_close(scored.scores, {"first": [1.0, 1.125]})
    assert scored.unscored == ("second",)


def test_batch_norm_needs_one() -> None:
    network, found = chain((3, 4, 2))
    with pytest.raises(StepFailed, match="no layer that could lose a unit has a batch normalization") as failed:
        batch_norm_scale(network, found)
    assert "importance" in failed.value.next


def test_a_weight_that_is_no_number_is_refused_with_its_layer() -> None:
    network, found = chain((3, 4, 5, 2))
    with torch.no_grad():
        network.get_parameter("layers.1.weight")[2, 0] = torch.nan
    with pytest.raises(StepFailed, match=r"by l2, some unit of layers\.0 is worth something that is not a number"):
        importance("l2", complete(network), found, CrossEntropy())


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_network_without_units_has_no_scores(kind: Kind) -> None:
    nothing = Dependencies((), {"0": "is the answer"}, (), ())
    assert importance(kind, complete(nn.Sequential(nn.Linear(2, 1))), nothing, CrossEntropy()).scores == {}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_nothing_of_the_model_changes_and_the_scores_come_again(kind: Kind) -> None:
    network, found = images()
    model = complete(network)
    network.train()
    network.norm.eval()
    network.first.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    dice = torch.Generator().manual_seed(1)
    batches = [
        Batch((torch.rand(size, 2, 5, 5, generator=dice),), torch.randint(3, (size,), generator=dice))
        for size in (4, 3)
    ]
    with torch.no_grad():
        first, second = (importance(kind, model, found, CrossEntropy(), batches).scores for _ in range(2))
    for name, scores in first.items():
        np.testing.assert_array_equal(scores, second[name])
        assert scores.min() >= 0
        assert scores.max() > 0
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [part.training for part in network.children()] == [True, False, True, True]
    assert not network.first.weight.requires_grad
    assert network.head.weight.requires_grad
    if kind not in LOOKS_AT_ROWS:
        assert_close(importance(kind, model, found, CrossEntropy()).scores, first)


def test_units_of_several_indices_take_all_of_them() -> None:
    network = nn.Sequential(nn.Linear(3, 6, bias=False), nn.Linear(6, 1, bias=False))
    heads = UnitGroup("0", "heads", (Place("0.weight", 0, each(2, 3)), Place("1.weight", 1, each(2, 3))))
    weights = values(network)
    wanted = np.array(
        [
            np.linalg.norm(weights["0.weight"][rows]) + np.linalg.norm(weights["1.weight"][:, rows])
            for rows in (slice(0, 3), slice(3, 6))
        ]
    )
    assert_close(weight_norms(network, Dependencies((heads,), {}, (), ()), 2), {"0": wanted / wanted.mean()})
