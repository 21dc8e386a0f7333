"""Zeros where weights matter least, against plain references in NumPy."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_networks import NETWORKS, Kernels, Mixture, model_of, own, rows_of
from torch import nn

from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.compression.pruning.sparsity import asked_share, prune_weights, sparsity_of
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.recipe.prune import PatternPruning, UnstructuredPruning
from mlctl.training.batches import Samples


def unstructured(ratio: float, **changes: Any) -> UnstructuredPruning:
    return UnstructuredPruning.model_validate({"method": "unstructured", "ratio": ratio, **changes})


def pattern(keep: int = 2, group: int = 4, **changes: Any) -> PatternPruning:
    return PatternPruning.model_validate({"method": "n-of-m", "keep": keep, "group": group, **changes})


def weights_of(model: CompleteModel) -> dict[str, npt.NDArray[np.float32]]:
    found = prunable_weights(model.network).weights
    return {weight.name: weight.parameter.detach().numpy().copy() for weight in found}


def smallest(scores: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    """The reference: sort all, and take the first."""
    chosen = np.zeros(scores.size, np.bool_)
    chosen[np.argsort(scores.ravel(), kind="stable")[:count]] = True
    return chosen.reshape(scores.shape)


@settings(max_examples=20)
@given(st.sampled_from(["mlp", "cnn", "vit", "lstm", "transformer"]), st.floats(0.01, 0.8))
def test_the_smallest_of_all_weights_become_zero_and_no_other_changes(name: str, ratio: float) -> None:
    model = model_of(name)
    before = weights_of(model)
    others = {key: each.clone() for key, each in model.state_dict().items()}
    found = prune_weights(model, unstructured(ratio), ratio)
    every = np.concatenate([np.abs(each).ravel() for each in before.values()])
    goes = smallest(every, round(ratio * len(every)))
    for key, each in weights_of(model).items():
        here, goes = goes[: each.size].reshape(each.shape), goes[each.size :]
        assert (each == np.where(here, 0, before[key])).all()
    assert found.weights == len(every)
    assert found.zeros == round(ratio * len(every))
    assert found.share == found.zeros / len(every)
    pruned = {id(weight.parameter) for weight in prunable_weights(model.network).weights}
    for key, parameter in model.named_parameters():
        assert id(parameter) in pruned or torch.equal(parameter, others[key])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.7])
def test_within_layers_every_layer_loses_the_same_share(name: str, ratio: float) -> None:
    model = model_of(name)
    before = weights_of(model)
    found = prune_weights(model, unstructured(ratio, scope="layer"), ratio)
    for layer in found.layers:
        assert layer.zeros == round(ratio * layer.weights)
        assert layer.share == layer.zeros / layer.weights
    for key, each in weights_of(model).items():
        goes = smallest(np.abs(before[key]), round(ratio * each.size))
        assert (each == np.where(goes, 0, before[key])).all()


def test_equal_weights_go_by_their_place() -> None:
    model = own(lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    prune_weights(model, unstructured(0.5), 0.5)
    flat = np.concatenate([each.ravel() for each in weights_of(model).values()])
    assert flat.tolist() == [0.0] * 7 + [0.5] * 7


@pytest.mark.parametrize("wanted", [unstructured(0.6), unstructured(0.6, importance="wanda"), pattern(1, 4)])
def test_in_steps_the_zeros_grow_and_end_at_the_whole(wanted: UnstructuredPruning | PatternPruning) -> None:
    model, samples = model_of("vit"), rows_of("vit", 20)
    steps, before = 3, weights_of(model)
    for step in range(1, steps + 1):
        found = prune_weights(model, wanted, asked_share(wanted) * step / steps, samples)
        after = weights_of(model)
        for key, each in after.items():
            assert (each[before[key] == 0] == 0).all(), "what was zero stays zero"
        before = after
    expected = sum(
        round(asked_share(wanted) * layer.weights) for layer in found.layers if layer.name not in found.whole
    )
    assert abs(found.zeros - expected) <= len(found.layers) / 2, "every layer is rounded, or all of them together"


def test_pruned_again_by_less_nothing_changes() -> None:
    model = model_of("cnn")
    first = prune_weights(model, unstructured(0.5), 0.5)
    before = weights_of(model)
    assert prune_weights(model, unstructured(0.3), 0.3) == first
    assert all((each == before[key]).all() for key, each in weights_of(model).items())
    assert sparsity_of(model.network) == first


def wanda(weight: npt.NDArray[Any], lengths: npt.NDArray[Any], share: float) -> npt.NDArray[np.bool_]:
    """The reference for [O, I] or [O, I, ...]: sort every row by itself."""
    scores = np.abs(weight) * lengths.reshape(1, -1, *(1,) * (weight.ndim - 2))
    rows = scores.reshape(len(weight), -1)
    bounds = [round(share * rows.shape[1] * row) for row in range(len(rows) + 1)]
    chosen = [smallest(row, bounds[place + 1] - bounds[place]) for place, row in enumerate(rows)]
    return np.stack(chosen).reshape(weight.shape)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_wanda_weighs_weights_with_the_inputs_of_their_row(share: float) -> None:
    model, samples = model_of("mlp"), rows_of("mlp", 100)
    # Inputs of very different lengths, so that sizes alone would choose otherwise.
    samples.inputs[0][:, 0] //= 20
    samples.inputs[0][:, 1, 2] = 0
    before = weights_of(model)
    hidden = samples.inputs[0].reshape(100, -1) / 255.0
    exact = copy.deepcopy(model.network).double()
    by_size = copy.deepcopy(model)
    found = prune_weights(model, unstructured(share, importance="wanda"), share, samples)
    prune_weights(by_size, unstructured(share, scope="layer"), share)
    for key, each in weights_of(model).items():
        goes = wanda(before[key].astype(np.float64), np.linalg.norm(hidden, axis=0), share)
        assert ((each == 0) == goes).all()
        assert (each[~goes] == before[key][~goes]).all()
        rows = (each == 0).sum(1)
        assert rows.max() - rows.min() <= 1
        with torch.no_grad():
            hidden = exact.get_submodule(key)(torch.from_numpy(hidden)).relu().numpy()
    assert found.unseen == ()
    assert [layer.zeros for layer in found.layers] == [round(share * layer.weights) for layer in found.layers]
    assert weights_of(by_size)["hidden.0"].tolist() != weights_of(model)["hidden.0"].tolist()


def test_wanda_answers_better_than_sizes_where_inputs_differ() -> None:
    model, samples = model_of("mlp"), rows_of("mlp", 200)
    samples.inputs[0][:, :2] //= 25
    raw = torch.from_numpy(samples.inputs[0])
    whole = model(raw).detach()
    errors = {}
    for importance in ("wanda", "magnitude"):
        cut = copy.deepcopy(model)
        prune_weights(cut, unstructured(0.5, scope="layer", importance=importance), 0.5, samples)
        errors[importance] = float((cut(raw).detach() - whole).square().mean())
    assert errors["wanda"] < 0.8 * errors["magnitude"]


def test_wanda_knows_kernels_by_their_channels_and_groups() -> None:
    model = own(Kernels)
    images = np.random.default_rng(1).standard_normal((30, 4, 5, 5)).astype(np.float32)
    images *= np.array([4.0, 0.1, 1.0, 2.0], np.float32)[:, None, None]
    before = weights_of(model)
    exact = copy.deepcopy(model.network).double()
    assert isinstance(exact, Kernels)
    prune_weights(model, unstructured(0.5, importance="wanda"), 0.5, Samples((images,), np.zeros(30)))
    after = weights_of(model)
    first = torch.from_numpy(images).double()
    second = exact.plain(first).relu()
    third = exact.grouped(second).relu()
    lengths = [each.detach().square().sum((0, 2, 3)).sqrt().numpy() for each in (first, second, third)]
    assert ((after["plain"] == 0) == wanda(before["plain"], lengths[0], 0.5)).all()
    for half in (0, 1):
        rows, inputs = slice(6 * half, 6 * half + 6), slice(4 * half, 4 * half + 4)
        assert ((after["grouped"][rows] == 0) == wanda(before["grouped"][rows], lengths[1][inputs], 0.5)).all()
    for group in range(3):
        part = slice(4 * group, 4 * group + 4)
        kernel, found = (each["turned"][part].swapaxes(0, 1) for each in (before, after))
        assert ((found == 0) == wanda(kernel, lengths[2][part], 0.5)).all()


def test_where_inputs_are_not_seen_sizes_decide_within_each_output_and_it_is_said() -> None:
    model = model_of("lstm")
    before = weights_of(model)
    found = prune_weights(model, unstructured(0.5, importance="wanda"), 0.5, rows_of("lstm", 20))
    # The head's weight is used without its layer.
    assert found.unseen == (*(f"body.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")), "head")
    for key in found.unseen:
        each = before[key]
        assert ((weights_of(model)[key] == 0) == wanda(each, np.ones(each.shape[1]), 0.5)).all()
    with pytest.raises(ValueError, match="needs samples"):
        prune_weights(model, unstructured(0.5, importance="wanda"), 0.5)


@pytest.mark.parametrize(("keep", "group"), [(2, 4), (1, 4), (1, 2), (4, 8)])
@pytest.mark.parametrize("name", ["mlp", "transformer", "lstm"])
def test_of_every_group_along_the_inputs_the_largest_stay(keep: int, group: int, name: str) -> None:
    model = model_of(name)
    before = weights_of(model)
    wanted = pattern(keep, group)
    found = prune_weights(model, wanted, asked_share(wanted))
    uneven = {key for key, each in before.items() if each.shape[1] % group}
    assert uneven == {key for key, why in found.whole.items() if "no multiple" in why}
    for key, each in weights_of(model).items():
        if key in uneven:
            assert (each == before[key]).all()
            continue
        groups, old = (array.reshape(len(array), -1, group) for array in (each, np.abs(before[key])))
        assert ((groups != 0).sum(2) == keep).all()
        order = np.sort(old, axis=2)
        assert ((old >= order[:, :, -keep, None]) == (groups != 0)).all()


def test_kernels_have_the_pattern_along_the_channels_of_their_group() -> None:
    model = own(Kernels)
    prune_weights(model, pattern(), 0.5)
    after = weights_of(model)
    plain = (after["plain"] != 0).reshape(8, 1, 4, 3, 3)
    assert (plain.sum(2) == 2).all()
    assert ((after["grouped"] != 0).reshape(12, 1, 4).sum(2) == 2).all()
    turned = (after["turned"] != 0).reshape(3, 4, 2, 3, 3)  # inputs before outputs, four in each of three groups
    assert (turned.sum(1) == 2).all()


def test_layers_whose_inputs_are_no_multiple_stay_whole_and_are_named() -> None:
    model = model_of("cnn")
    before = weights_of(model)
    found = prune_weights(model, pattern(), 0.5)
    assert found.whole == {"blocks.0.conv": "its 3 inputs are no multiple of 4"}
    assert (weights_of(model)["blocks.0.conv"] == before["blocks.0.conv"]).all()
    assert {layer.name: layer.share for layer in found.layers} == {
        "blocks.0.conv": 0.0,
        "blocks.1.conv": 0.5,
        "head": 0.5,
    }
    with pytest.raises(StepFailed, match="no layer has inputs in multiples of 32"):
        prune_weights(model, pattern(16, 32), 0.5)


def test_a_pattern_can_weigh_inputs_too() -> None:
    model, samples = model_of("mlp"), rows_of("mlp", 50)
    samples.inputs[0].reshape(50, -1)[:, 1::4] = 0
    before = weights_of(model)["hidden.0"]
    assert (before != 0).all()
    prune_weights(model, pattern(3, 4, importance="wanda"), 0.25, samples)
    groups = weights_of(model)["hidden.0"].reshape(len(before), -1, 4) == 0
    assert groups[:, :, 1].all()
    assert groups.sum() == before.size / 4


def test_a_ratio_that_would_empty_a_layer_is_refused_and_nothing_changes() -> None:
    model = model_of("mlp")
    with torch.no_grad():
        model.network.get_parameter("head.weight").mul_(1e-3)
    before = weights_of(model)
    with pytest.raises(StepFailed, match=r"zeros in 50\.0% of the weights would leave none in head"):
        prune_weights(model, unstructured(0.5), 0.5)
    assert all((each == before[key]).all() for key, each in weights_of(model).items())
    prune_weights(model, unstructured(0.5, protect=("head",)), 0.5)
    tiny = own(lambda: nn.Linear(3, 1))
    with pytest.raises(StepFailed, match="would leave none in weight"):
        prune_weights(tiny, unstructured(0.9, scope="layer"), 0.9)


def test_a_layer_that_was_empty_before_is_no_reason_to_refuse() -> None:
    model = model_of("mlp")
    with torch.no_grad():
        model.network.get_parameter("head.weight").zero_()
    found = prune_weights(model, unstructured(0.5), 0.5)
    assert found.layers[-1].share == 1
    assert found.zeros == round(0.5 * found.weights)


def test_figures_count_protected_layers_neither_as_weights_nor_as_zeros() -> None:
    model = own(Mixture)
    found = prune_weights(model, unstructured(0.5, protect=("attention", "last")), 0.25)
    assert [(layer.name, layer.weights) for layer in found.layers] == [("weight_between", 64), ("first", 64)]
    assert (found.weights, found.zeros, found.share) == (128, 32, 0.25)
    assert sparsity_of(model.network, ("attention", "last")) == found
    assert sparsity_of(model.network).share == 32 / (128 + 192 + 64 + 16)
