from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.models.cnn import Cnn
from mlctl.models.table import NETWORKS, build
from mlctl.recipe.networks import CnnSettings, CustomSettings, LinearSettings, MlpSettings, NetworkSettings

# Sums of a few hundred products of numbers near 1, float32 against float64: 300 × 6e-8 at worst.
TOLERANCE = 2e-5


def test_every_network_that_a_recipe_names_by_a_word_can_be_built() -> None:
    kinds = [get_args(tagged)[0] for tagged in get_args(get_args(NetworkSettings)[0])]
    assert [kind().arch for kind in kinds if kind is not CustomSettings] == list(NETWORKS)


@pytest.mark.parametrize("asked", [LinearSettings(), MlpSettings(), CnnSettings()], ids=lambda each: each.arch)
def test_the_same_seed_gives_the_same_weights(asked: NetworkSettings) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(build(asked, ((1, 8, 8),), 10).parameters())

    assert all(map(torch.equal, weights(3), weights(3)))
    assert not all(map(torch.equal, weights(3), weights(4)))


def test_linear_is_a_product_and_a_sum() -> None:
    network = build(LinearSettings(), ((2, 3),), 4).double()
    features = torch.randn(5, 2, 3, dtype=torch.float64)
    weight, bias = (each.detach().numpy() for each in network.parameters())
    expected = features.numpy().reshape(5, 6) @ weight.T + bias
    np.testing.assert_allclose(network(features).detach(), expected, rtol=1e-12)


def test_linear_without_bias_sends_nothing_to_nothing() -> None:
    network = build(LinearSettings(bias=False), ((3,),), 2)
    assert network(torch.zeros(1, 3)).tolist() == [[0, 0]]


REFERENCE_ACTIVATIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy()),
}


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_mlp_puts_the_activation_between_its_layers(activation: str) -> None:
    asked = MlpSettings.model_validate({"hidden": (7, 5), "activation": activation})
    network = build(asked, ((4,),), 3).double()
    features = torch.randn(6, 4, dtype=torch.float64)
    values = [each.detach().numpy() for each in network.parameters()]
    hidden = features.numpy()
    for weight, bias in ((values[0], values[1]), (values[2], values[3])):
        hidden = REFERENCE_ACTIVATIONS[activation](hidden @ weight.T + bias)
    np.testing.assert_allclose(network(features).detach(), hidden @ values[4].T + values[5], rtol=1e-10, atol=1e-12)


def reference_cnn(network: Cnn, image: torch.Tensor, poolings: list[bool]) -> torch.Tensor:
    """Convolution, normalization, ReLU and only then pooling, in float64, from the network's tensors."""
    tensors = {name: each.double() for name, each in network.state_dict().items()}
    features = image.double()
    for number, pools in enumerate(poolings):
        kernel = tensors[f"blocks.{number}.conv.weight"]
        features = functional.conv2d(features, kernel, padding="same")
        norm = [tensors[f"blocks.{number}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = (each[:, None, None] for each in norm)
        features = torch.relu((features - mean) / torch.sqrt(variance + 1e-5) * weight + bias)
        if pools:
            features = functional.max_pool2d(features, 2)
    pooled = features.mean((2, 3))
    return functional.linear(pooled, tensors["head.weight"], tensors["head.bias"])


@pytest.mark.parametrize(
    ("side", "channels", "poolings"),
    [(8, (4, 6), [True, False]), (2, (4, 4, 4), [True, False, False]), (9, (3,), [False]), (1, (2, 2), [False, False])],
)
def test_cnn_halves_in_every_block_but_the_last_while_it_can(
    side: int, channels: tuple[int, ...], poolings: list[bool]
) -> None:
    network = Cnn(CnnSettings(channels=channels), ((2, side, side),), 3)
    with torch.no_grad():
        network.train()(torch.randn(16, 2, side, side) * 3 + 1)  # so that the running statistics mean something
    image = torch.randn(5, 2, side, side)
    found = network.eval()(image)
    torch.testing.assert_close(found.double(), reference_cnn(network, image, poolings), atol=TOLERANCE, rtol=TOLERANCE)


@settings(max_examples=30)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    kernel=st.sampled_from([1, 3, 5, 7]),
)
def test_cnn_takes_images_of_any_size(height: int, width: int, channels: list[int], kernel: int) -> None:
    wanted = CnnSettings.model_validate({"channels": tuple(channels), "kernel": kernel})
    network = build(wanted, ((3, height, width),), 2).eval()
    assert network(torch.zeros(2, 3, height, width)).shape == (2, 2)


@pytest.mark.parametrize("asked", [MlpSettings(dropout=0.5), CnnSettings(dropout=0.5)], ids=lambda each: each.arch)
def test_dropout_acts_in_training_only(asked: NetworkSettings) -> None:
    network: nn.Module = build(asked, ((1, 6, 6),), 4)
    image = torch.randn(8, 1, 6, 6)
    assert not torch.equal(network.train()(image), network.train()(image))
    assert torch.equal(network.eval()(image), network.eval()(image))


@pytest.mark.parametrize(
    ("asked", "shapes", "what"),
    [
        (CnnSettings(), ((64,),), "cnn takes one image [channels, height, width], the data has [64]"),
        (CnnSettings(), ((1, 8, 8), (3,)), "the data has [1, 8, 8] and [3]"),
        (MlpSettings(), ((3,), (4,)), "mlp takes one input of at least one axis, the data has [3] and [4]"),
        (LinearSettings(), ((),), "linear takes one input of at least one axis, the data has []"),
        (LinearSettings(), (), "the data has no input"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_name(
    asked: NetworkSettings, shapes: tuple[tuple[int, ...], ...], what: str
) -> None:
    with pytest.raises(StepFailed) as refusal:
        build(asked, shapes, 10)
    assert what in refusal.value.what
    assert "prepare" in refusal.value.next
