import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparse_networks import NETWORKS, Kernels, Mixture, model_of
from torch import nn

from mlctl.compression.pruning.prunable_weights import LOOKED_UP, NO_MATRIX, PROTECTED, prunable_weights
from mlctl.errors import StepFailed

EXPECTED = {
    "mlp": ["hidden.0", "hidden.1", "head"],
    "cnn": ["blocks.0.conv", "blocks.1.conv", "head"],
    "vit": [
        "patches",
        *(f"blocks.0.{name}" for name in ("attention.read", "attention.merge", "widen", "narrow")),
        "head",
    ],
    "lstm": [f"body.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")] + ["head"],
    "gru": ["body.weight_ih_l0", "body.weight_hh_l0", "head"],
    "transformer": [f"blocks.0.{name}" for name in ("attention.inputs", "attention.output", "up", "down")],
    "transformer with a head": [
        *(f"blocks.0.{name}" for name in ("attention.inputs", "attention.output", "up", "down")),
        "head",
    ],
}
WHOLE = {
    "vit": {"positions": NO_MATRIX},
    "lstm": {"embedding": LOOKED_UP},
    "gru": {"embedding": LOOKED_UP},
    "transformer": {"embedding": LOOKED_UP},
    "transformer with a head": {"embedding": LOOKED_UP},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_matrices_and_kernels_are_weights_and_embeddings_and_positions_are_not(name: str) -> None:
    found = prunable_weights(model_of(name).network)
    assert [weight.name for weight in found.weights] == EXPECTED[name]
    assert found.whole == WHOLE.get(name, {})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_with_two_axes_is_a_weight_or_said_to_stay_whole(name: str) -> None:
    network = model_of(name).network
    found = prunable_weights(network)
    assert len(found.weights) + len(found.whole) == sum(each.ndim > 1 for each in network.parameters())


def test_of_a_users_network_matrices_are_weights_and_scales_and_norms_are_not() -> None:
    network = Mixture()
    found = prunable_weights(network)
    assert [weight.name for weight in found.weights] == [
        "weight_between",
        "first",
        "attention.in_proj_weight",
        "attention.out_proj",
        "last",
    ]
    assert found.weights[1].parameter is network.first.weight
    assert [name for name, _ in found.weights[1].layers] == ["first", "second"]
    own = ("positions", "weight_of_channels", "attention.bias_k", "attention.bias_v")
    assert found.whole == dict.fromkeys(own, NO_MATRIX)


@pytest.mark.parametrize(
    ("globs", "protected"),
    [
        (("head",), ["head"]),
        (("blocks.*.conv",), ["blocks.0.conv", "blocks.1.conv"]),
        (("blocks",), ["blocks.0.conv", "blocks.1.conv"]),
        (("*.1.*", "head"), ["blocks.1.conv", "head"]),
        (("blocks.0.norm",), []),
    ],
)
def test_protected_layers_stay_whole_with_all_that_is_in_them(globs: tuple[str, ...], protected: list[str]) -> None:
    found = prunable_weights(model_of("cnn").network, globs)
    assert found.whole == dict.fromkeys(protected, PROTECTED)
    assert [weight.name for weight in found.weights] == [name for name in EXPECTED["cnn"] if name not in protected]


def test_a_layer_is_protected_by_any_of_its_names() -> None:
    network = Mixture()
    assert prunable_weights(network, ("second",)).whole["first"] == PROTECTED
    assert prunable_weights(network, ("attention.in_*",)).whole["attention.in_proj_weight"] == PROTECTED
    lstm = model_of("lstm").network
    assert [weight.name for weight in prunable_weights(lstm, ("body.*_hh_*", "head")).weights] == [
        "body.weight_ih_l0",
        "body.weight_ih_l1",
    ]


def test_a_name_that_fits_nothing_is_refused_with_what_was_meant() -> None:
    with pytest.raises(StepFailed) as refused:
        prunable_weights(model_of("cnn").network, ("head", "blocks.0.cnov"))
    assert refused.value.what == (
        "`protect` names blocks.0.cnov, and the network has no such layer; did you mean 'blocks.0.conv'?"
    )
    with pytest.raises(StepFailed, match=r"its layers are blocks, blocks\.0, "):
        prunable_weights(model_of("cnn").network, ("encoder.layer[12].*",))


def test_a_network_without_weights_is_refused_with_the_reason() -> None:
    with pytest.raises(StepFailed, match=r"no weight that could become zero; whole stay: 1"):
        prunable_weights(nn.Sequential(nn.BatchNorm1d(3)).append(nn.Embedding(3, 2)))
    with pytest.raises(StepFailed, match="whole stay: none"):
        prunable_weights(nn.BatchNorm1d(3))
    with pytest.raises(StepFailed, match=r"whole stay: blocks\.0\.conv, blocks\.1\.conv, head"):
        prunable_weights(model_of("cnn").network, ("*",))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_turned_kernels_are_read_by_output(groups: int, inputs: int, outputs: int, side: int) -> None:
    layer = nn.ConvTranspose2d(groups * inputs, groups * outputs, side, groups=groups, bias=False)
    weight = prunable_weights(nn.ModuleList([layer])).weights[0]
    with torch.no_grad():
        layer.weight.copy_(torch.arange(layer.weight.numel()).view(layer.weight.shape))
    rows = weight.by_output(layer.weight.detach())
    assert rows.shape == (groups * outputs, inputs, side, side)
    assert torch.equal(weight.as_stored(rows), layer.weight.detach())
    # One pixel alone gives every output its kernel, summed over the inputs of its group.
    answer = layer(torch.ones(1, groups * inputs, 1, 1))
    assert torch.equal(rows.sum(1), answer[0])


def test_a_bare_layer_goes_by_its_parameters_name() -> None:
    assert [weight.name for weight in prunable_weights(nn.Linear(1, 3)).weights] == ["weight"]
    assert [weight.turned_groups for weight in prunable_weights(Kernels()).weights] == [0, 0, 3]
