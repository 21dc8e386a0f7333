"""What units are worth by what rows of data say, against gates, plain forward passes and float64."""

from collections.abc import Callable
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from unit_groups import Chain, chain, complete, each, group, images

from mlctl.compression.pruning.dependencies import Dependencies, Place, UnitGroup
from mlctl.compression.pruning.importance import importance
from mlctl.compression.pruning.importance_activations import activation_sizes
from mlctl.compression.pruning.importance_gradients import Gradients, loss_changes
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.models.vit import Attention, attend
from mlctl.recipe.networks import LstmSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.tasks.next_token import NextToken
from mlctl.training.batches import Batch

# Sums of float32 numbers, some hundred here: off by a millionth of the largest.
CLOSE = 1e-4
SIZES = (7, 5)
Array: TypeAlias = npt.NDArray[np.float64]


def rows(*shape: int, classes: int) -> list[Batch]:
    """Batches of 7 and of 5 samples."""
    dice = torch.Generator().manual_seed(5)
    return [
        Batch((torch.randn(size, *shape, generator=dice),), torch.randint(classes, (size,), generator=dice))
        for size in SIZES
    ]


def gate_gradients(network: Chain, batch: Batch) -> list[npt.NDArray[np.float64]]:
    """The gradient of the loss by a factor of 1 on every hidden unit, [U] for each hidden layer, in float64."""
    values, gates = batch.inputs[0].double(), []
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, nn.Linear)
        values = functional.linear(values, layer.weight.double())
        if number < len(network.layers) - 1:
            gates.append(torch.ones(values.shape[1], dtype=torch.float64, requires_grad=True))
            values = functional.relu(values) * gates[-1]
    found = torch.autograd.grad(functional.cross_entropy(values, batch.targets), gates)
    return [gradient.numpy() for gradient in found]


def test_taylor_and_fisher_are_what_a_gate_on_every_unit_would_say() -> None:
    network, found = chain((4, 6, 5, 3), bias=False)
    batches = rows(4, classes=3)
    # Without biases ReLU's answers are proportional to what is written and to what is read: twice the gate's gradient.
    changes = [[2 * gradient for gradient in gate_gradients(network, batch)] for batch in batches]
    functions: dict[Gradients, Callable[[Array], Array]] = {"taylor": np.abs, "fisher": lambda change: change**2 / 2}
    for kind, function in functions.items():
        scores = importance(kind, complete(network), found, CrossEntropy(), batches)
        for number in (0, 1):
            wanted = np.average([function(change[number]) for change in changes], axis=0, weights=SIZES)
            np.testing.assert_allclose(scores.scores[f"layers.{number}"], wanted, rtol=CLOSE, atol=1e-7)


@pytest.mark.parametrize("kind", get_args(Gradients))
def test_a_dead_unit_costs_nothing(kind: Gradients) -> None:
    network, found = chain((4, 6, 3))
    with torch.no_grad():
        network.get_parameter("layers.0.weight")[2] = 0
        network.get_parameter("layers.0.bias")[2] = -1
    batches = rows(4, classes=3)
    scores = loss_changes(kind, complete(network), found, batches, CrossEntropy())
    assert scores["layers.0"][2] == 0
    assert (np.delete(scores["layers.0"], 2) > 0).any()
    assert activation_sizes(complete(network), found, batches)["layers.0"][2] == 0


def test_recurrent_networks_have_gradients_while_they_evaluate() -> None:
    torch.manual_seed(0)
    network = build(LstmSettings(embedding=4, hidden=6, layers=2, dropout=0.5), ((5,),), 7)
    places = [Place(f"body.weight_hh_l{layer}", 1, each(6)) for layer in (0, 1)]
    found = Dependencies((UnitGroup("body", "units", (*places, Place("head.weight", 1, each(6)))),), {}, (), ())
    tokens = torch.randint(7, (3, 5))
    model = CompleteModel(network, (None,), nn.Identity())
    objective = NextToken(np.ones(7, np.int32))
    first, second = (
        importance("fisher", model, found, objective, [Batch((tokens,), tokens)]).scores["body"] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)  # no dropout
    assert (first > 0).all()


def test_channels_are_as_large_as_what_the_next_layer_reads() -> None:
    network, found = images()
    batches = rows(2, 5, 5, classes=3)
    scores = activation_sizes(complete(network), found, batches)
    with torch.no_grad():
        hidden = torch.cat([network.hidden(batch.inputs[0]) for batch in batches]).double()
        sizes = hidden.abs().mean((0, 2, 3)).numpy()
        after = torch.cat([functional.relu(network.second(network.hidden(batch.inputs[0]))) for batch in batches])
    pairs = (sizes[:2] + sizes[2:]) / 2
    np.testing.assert_allclose(scores["first"], pairs / pairs.mean(), rtol=CLOSE)
    threes = after.double().abs().mean((0, 2, 3)).numpy().reshape(2, 3).mean(0)
    np.testing.assert_allclose(scores["second"], threes / threes.mean(), rtol=CLOSE)


def test_heads_are_as_large_as_their_answers_where_they_are_merged() -> None:
    torch.manual_seed(1)
    network = Attention(8, 2)
    inner = np.array([[part * 8 + head * 4 + number for part in range(3) for number in range(4)] for head in (0, 1)])
    heads = UnitGroup("read", "heads", (Place("read.weight", 0, inner), Place("merge.weight", 1, each(2, 4))))
    tokens = torch.randn(3, 5, 8)
    with torch.no_grad():
        parts = network.read(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        sizes = attend(*parts).double().abs().mean((0, 2, 3)).numpy()
    scores = activation_sizes(
        CompleteModel(network, (InputScaling(),), nn.Identity()),
        Dependencies((heads,), {}, (), ()),
        [Batch((tokens,), torch.zeros(3))],
    )
    np.testing.assert_allclose(scores["read"], sizes / sizes.mean(), rtol=CLOSE)


def test_units_that_no_layer_reads_are_seen_where_they_are_written() -> None:
    torch.manual_seed(2)
    network = build(LstmSettings(embedding=6, hidden=6, layers=1, dropout=0.0, tied=True), ((5,),), 7)
    body = network.get_submodule("body")
    axes = [("embedding.weight", 1), ("body.weight_hh_l0", 1)]
    found = Dependencies((group("body", 6, *axes),), {}, (), ())
    tokens = torch.randint(7, (3, 5))
    written = []
    hook = body.register_forward_hook(lambda _, inputs, outputs: written.append(outputs[0]))
    with torch.no_grad():
        network(tokens)
    hook.remove()
    embedded = network.get_parameter("embedding.weight").detach()[tokens]
    # Both write the group: the embedding its columns, the recurrent layer its hidden units.
    sizes = (embedded.double().abs().mean((0, 1)) + written[0].double().abs().mean((0, 1))).numpy()
    scores = activation_sizes(CompleteModel(network, (None,), nn.Identity()), found, [Batch((tokens,), tokens)])
    np.testing.assert_allclose(scores["body"], sizes / sizes.mean(), rtol=CLOSE)


def test_both_directions_of_a_recurrent_layer_are_judged_together() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.GRU(3, 4, bidirectional=True, batch_first=True)

        def forward(self, series: Tensor) -> Tensor:
            found: Tensor = self.body(series)[0]
            return found

    torch.manual_seed(2)
    network = Both()
    found = Dependencies((group("body", 4, ("body.weight_hh_l0", 1)),), {}, (), ())
    series = torch.randn(2, 6, 3)
    with torch.no_grad():
        sizes = network(series).double().abs().mean((0, 1)).numpy().reshape(2, 4).mean(0)
    scores = activation_sizes(complete(network), found, [Batch((series,), torch.zeros(2))])
    np.testing.assert_allclose(scores["body"], sizes / sizes.mean(), rtol=CLOSE)


def test_transposed_convolutions_are_read_along_their_first_axis() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2))
    found = Dependencies((group("0", 4, ("0.weight", 0), ("2.weight", 0), kind="channels"),), {}, (), ())
    batch = Batch((torch.randn(3, 1, 4, 4),), torch.zeros(3))
    with torch.no_grad():
        sizes = network[:2](batch.inputs[0]).double().abs().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(
        activation_sizes(complete(network), found, [batch])["0"], sizes / sizes.mean(), rtol=CLOSE
    )


def test_units_that_cannot_be_seen_are_refused_by_name() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    heads = UnitGroup("self_attn", "heads", (Place("self_attn.out_proj.weight", 1, each(2, 4)),))
    inner = group("linear1", 16, ("linear1.weight", 0), ("linear2.weight", 1))
    batch = Batch((torch.randn(2, 3, 8),), torch.zeros(2))
    seen = activation_sizes(complete(layer), Dependencies((inner,), {}, (), ()), [batch])
    assert seen["linear1"].mean() == pytest.approx(1)
    with pytest.raises(StepFailed, match="heads of self_attn") as failed:
        activation_sizes(complete(layer), Dependencies((heads,), {}, (), ()), [batch])
    assert "importance" in failed.value.next
