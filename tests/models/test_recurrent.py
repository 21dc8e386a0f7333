"""LSTM and GRU against torch's own cells, stepped by hand."""

from typing import Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.models.recurrent import Gru, Lstm
from mlctl.models.stateful import StateForm, Stateful, state_form
from mlctl.models.table import build
from mlctl.recipe.networks import STATEFUL, GruSettings, LstmSettings, RecurrentSettings, TransformerSettings

VOCABULARY, CONTEXT = 11, 9
NETWORKS: Final = {
    "lstm": LstmSettings(embedding=8, hidden=16),
    "gru": GruSettings(embedding=8, hidden=16),
    "tied lstm": LstmSettings(embedding=16, hidden=16, tied=True),
    "tied gru": GruSettings(embedding=16, hidden=16, layers=1, tied=True),
}

# Two layers of sums of 32 products below 1 over 9 tokens, float32 against float64: some tens of roundings of 6e-8.
TOLERANCE = 5e-6

every_network = pytest.mark.parametrize("asked", NETWORKS.values(), ids=NETWORKS)


def lively(asked: RecurrentSettings) -> Lstm | Gru:
    """The network in evaluation mode, with a bias that shows."""
    torch.manual_seed(1)
    assert isinstance(asked, LstmSettings | GruSettings)
    network = build(asked, ((CONTEXT,),), VOCABULARY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    assert isinstance(network, Lstm | Gru)
    return network


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(length))


def cell(network: Lstm | Gru, layer: int) -> nn.LSTMCell | nn.GRUCell:
    """One layer of the network as torch's cell for one token, in float64."""
    kind = nn.LSTMCell if isinstance(network, Lstm) else nn.GRUCell
    made = kind(network.body.input_size if layer == 0 else network.body.hidden_size, network.body.hidden_size)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(made, name).data = getattr(network.body, f"{name}_l{layer}").data.double()
    return made.double()


def reference(network: Lstm | Gru, rows: Tensor) -> Tensor:
    """Logits [B, T, V], token by token and layer by layer, float64."""
    weights = {name: each.double() for name, each in network.state_dict().items()}
    cells = [cell(network, layer) for layer in range(network.body.num_layers)]
    states: list[Tensor | tuple[Tensor, Tensor] | None] = [None] * len(cells)
    found = []
    for column in rows.T:
        values = weights["embedding.weight"][column]
        for number, each in enumerate(cells):
            after = each(values, states[number])
            states[number], values = after, after[0] if isinstance(after, tuple) else after
        last = weights["head.weight"] if "head.weight" in weights else weights["embedding.weight"]
        found.append(values @ last.T + weights["bias"])
    return torch.stack(found, 1)


@every_network
def test_the_network_is_torchs_cells_one_after_the_other(asked: RecurrentSettings) -> None:
    network, rows = lively(asked), tokens(3, CONTEXT)
    expected = reference(network, rows)
    assert expected.std() > 0.5
    torch.testing.assert_close(network(rows).double(), expected, rtol=TOLERANCE, atol=TOLERANCE)


@every_network
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5), batch=st.integers(1, 3))
def test_reading_in_parts_is_reading_the_whole(asked: RecurrentSettings, cuts: list[int], batch: int) -> None:
    network = lively(asked)
    rows = tokens(batch, sum(cuts))
    state, found = network.empty_state(batch), []
    for part in rows.split(cuts, 1):  # type: ignore[no-untyped-call]
        logits, state = network.advance(part, state)
        found.append(logits)
    assert state.shape == network.empty_state(batch).shape
    torch.testing.assert_close(torch.cat(found, 1), network(rows), rtol=TOLERANCE, atol=TOLERANCE)


def test_their_states_keep_their_size() -> None:
    lstm, gru = lively(NETWORKS["lstm"]), lively(NETWORKS["gru"])
    assert state_form(lstm) == StateForm((2, 2, 1, 16), 2, None)
    assert state_form(gru) == StateForm((1, 2, 1, 16), 2, None)


def test_the_networks_that_generate_are_those_that_have_a_state() -> None:
    found = {
        each.arch: isinstance(build(each, ((CONTEXT,),), VOCABULARY), Stateful)
        for each in (LstmSettings(), GruSettings(), TransformerSettings())
    }
    assert found == dict.fromkeys(STATEFUL, True)


def test_forget_gates_begin_open() -> None:
    torch.manual_seed(0)
    network = build(LstmSettings(embedding=4, hidden=8), ((CONTEXT,),), VOCABULARY)
    assert isinstance(network, Lstm)
    for layer in range(2):
        bias = getattr(network.body, f"bias_ih_l{layer}").detach()
        assert (bias[8:16] == 1).all()
        assert bias[:8].abs().max() < 0.4


@pytest.mark.parametrize("kind", [LstmSettings, GruSettings])
def test_recurrent_layers_stay_in_float32_on_a_processor(kind: type[LstmSettings] | type[GruSettings]) -> None:
    network, rows = lively(kind(embedding=8, hidden=16)), tokens(4, CONTEXT)
    seen: list[torch.dtype] = []
    network.body.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(rows)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    assert (seen, logits.dtype) == ([torch.float32], torch.bfloat16)
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_in_training_only(layers: int) -> None:
    network = lively(LstmSettings(embedding=8, hidden=16, layers=layers, dropout=0.5))
    rows = tokens(2, 5)
    assert torch.equal(network(rows), network(rows))
    network.train()
    assert not torch.equal(network(rows), network(rows))


@pytest.mark.parametrize("kind", [LstmSettings, GruSettings])
def test_what_is_no_row_of_tokens_is_refused(kind: type[LstmSettings] | type[GruSettings]) -> None:
    with pytest.raises(StepFailed, match="takes one row of tokens, the data has \\[3, 8, 8\\]"):
        build(kind(), ((3, 8, 8),), 10)
