"""Lengths of inputs, against activations that the networks' own arithmetic gives in float64."""

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sparse_networks import CONTEXT, TOKENS, Kernels, Mixture, model_of, own, rows_of
from torch import nn
from torch.nn import functional

from mlctl.compression.pruning.input_lengths import input_lengths
from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.compression.pruning.weight_choice import Lengths
from mlctl.models.complete import CompleteModel
from mlctl.training.batches import Samples


def lengths_of(model: CompleteModel, samples: Samples) -> Lengths:
    return input_lengths(model, prunable_weights(model.network).weights, samples)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Activations are float32, through three layers at most, whose sums have 200 terms at most: about 1e-6 off.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def channel_lengths(images: torch.Tensor) -> torch.Tensor:
    return images.square().sum((0, 2, 3)).sqrt().float()


def normal(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("count", [1, 63, 64, 150])
def test_a_perceptrons_inputs_are_as_long_as_their_columns(count: int) -> None:
    model, samples = model_of("mlp"), rows_of("mlp", count)
    found = lengths_of(model, samples)
    exact = copy.deepcopy(model.network).double()
    hidden = torch.from_numpy(samples.inputs[0]).double().flatten(1) / 255
    for index in (0, 1):
        assert_near(found[f"hidden.{index}"], hidden.norm(dim=0)[None].float())
        layer = exact.get_submodule(f"hidden.{index}")
        hidden = layer(hidden).relu()
    assert_near(found["head"], hidden.norm(dim=0)[None].float())


def test_a_kernels_inputs_are_channels_and_every_group_has_its_own() -> None:
    model = own(Kernels)
    images = normal(70, 4, 5, 5)
    found = lengths_of(model, Samples((images,), np.zeros(70)))
    exact = copy.deepcopy(model.network).double()
    assert isinstance(exact, Kernels)
    first = torch.from_numpy(images).double()
    second = exact.plain(first).relu()
    third = exact.grouped(second).relu()
    assert_near(found["plain"], channel_lengths(first)[None])
    grouped = channel_lengths(second)
    assert_near(found["grouped"], torch.stack([grouped[:4]] * 6 + [grouped[4:]] * 6))
    turned = channel_lengths(third).view(3, 4)
    assert_near(found["turned"], turned.repeat_interleave(2, 0))


def test_all_tokens_of_all_rows_count() -> None:
    model, samples = model_of("transformer with a head"), rows_of("transformer", 90)
    found = lengths_of(model, samples)
    exact = copy.deepcopy(model.network).double()
    tokens = torch.from_numpy(samples.inputs[0]).long()
    assert tokens.shape == (90, CONTEXT)
    assert int(tokens.max()) < TOKENS
    normed = functional.layer_norm(
        exact.get_submodule("embedding")(tokens), (8,), exact.get_parameter("blocks.0.attention_norm.weight")
    )
    assert_near(found["blocks.0.attention.inputs"], normed.flatten(0, 1).norm(dim=0)[None].float())


def test_one_weight_in_two_layers_has_the_inputs_of_both() -> None:
    model = own(Mixture)
    rows = normal(20, 3, 8)
    found = lengths_of(model, Samples((rows,), np.zeros(20)))
    network = model.network
    assert isinstance(network, Mixture)
    first = torch.from_numpy(rows)
    both = torch.cat((first, network.first(first).detach().relu())).flatten(0, 1)
    assert_near(found["first"], both.norm(dim=0)[None])
    # What multiplies inside one kernel, or in the network's own code, shows nobody its inputs.
    assert set(found) == {"first", "last"}


def test_recurrent_layers_and_weights_that_are_used_without_their_layer_show_no_inputs() -> None:
    assert lengths_of(model_of("lstm"), rows_of("lstm", 3)) == {}


class Forgetful(nn.Module):
    """Has dropout and running figures, which only a training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layers(rows)
        return answer


def test_looking_changes_nothing() -> None:
    model = own(Forgetful).train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    samples = Samples((normal(9, 4),), np.zeros(9))
    found, again = lengths_of(model, samples), lengths_of(model, samples)
    assert torch.equal(found["layers.2"], again["layers.2"])
    assert model.training
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
