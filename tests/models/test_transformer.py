"""The transformer against a reference that was written from the papers in NumPy, float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.models.attention import RotaryTable, attend, causal_mask, rotated, writes_scores
from mlctl.models.stateful import StateForm, Stateful, Stepping, state_form
from mlctl.models.table import build
from mlctl.models.transformer import Transformer
from mlctl.recipe.networks import LinearSettings, NetworkSettings, TransformerSettings

Floats = NDArray[np.float64]
VOCABULARY, CONTEXT = 11, 9
SMALL = TransformerSettings(width=16, layers=2, heads=2)

# Two layers of sums over at most 64 products near 1, in float32 against float64: some tens of roundings of 6e-8.
TOLERANCE = 1e-5


def lively(asked: NetworkSettings, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with weights so large that every part of it shows in the logits."""
    torch.manual_seed(seed)
    network = build(asked, ((CONTEXT,),), VOCABULARY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.4 if parameter.ndim > 1 else 1.0))
    return network


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def turned(vectors: Floats) -> Floats:
    """RoPE as complex numbers: pair (i, i + W / 2) at position t times exp(i t 10000^(-2 i / W))."""
    width = vectors.shape[-1]
    numbers = vectors[..., : width // 2] + 1j * vectors[..., width // 2 :]
    places, pairs = np.arange(vectors.shape[-2]), np.arange(width // 2)
    numbers = numbers * np.exp(1j * places[:, None] * 10_000.0 ** (-2 * pairs / width))
    return np.concatenate([numbers.real, numbers.imag], -1)


def normalized(values: Floats, weight: Floats) -> Floats:
    centred = values - values.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight)


def attention_row(queries: Floats, keys: Floats, values: Floats, place: int) -> Floats:
    """What one token takes: a mean over itself and those before it, and over no others."""
    scores = keys[: place + 1] @ queries[place] / np.sqrt(queries.shape[-1])
    weights = np.exp(scores - scores.max())
    return np.asarray(weights @ values[: place + 1] / weights.sum())


def reference(network: nn.Module, asked: TransformerSettings, row: NDArray[np.int64]) -> Floats:
    """Logits [T, V] for one text [T], token by token and head by head."""
    weights: dict[str, Floats] = {name: each.double().numpy() for name, each in network.state_dict().items()}
    hidden = weights["embedding.weight"][row]
    width = asked.width // asked.heads
    for number in range(asked.layers):
        part = {name.removeprefix(f"blocks.{number}."): each for name, each in weights.items()}
        mixed = normalized(hidden, part["attention_norm.weight"]) @ part["attention.inputs.weight"].T
        heads = []
        for head in range(asked.heads):
            columns = slice(head * width, (head + 1) * width)
            queries, keys, values = (each[:, columns] for each in np.split(mixed, 3, axis=1))
            queries, keys = turned(queries), turned(keys)
            heads.append(np.stack([attention_row(queries, keys, values, place) for place in range(len(row))]))
        hidden = hidden + np.concatenate(heads, 1) @ part["attention.output.weight"].T
        up = normalized(hidden, part["dense_norm.weight"]) @ part["up.weight"].T
        erf = torch.erf(torch.from_numpy(up) / 2**0.5).numpy()
        hidden = hidden + (0.5 * up * (1 + erf)) @ part["down.weight"].T
    last = weights["embedding.weight"] if asked.tied else weights["head.weight"]
    return np.asarray(normalized(hidden, weights["norm.weight"]) @ last.T)


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
def test_the_network_is_the_one_of_the_papers(is_tied: bool) -> None:
    asked = TransformerSettings(width=16, layers=2, heads=2, tied=is_tied)
    network, rows = lively(asked), tokens(3, CONTEXT)
    found = network(rows).detach().numpy()
    expected = np.stack([reference(network, asked, row.numpy()) for row in rows])
    assert expected.std() > 1
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_what_comes_later_changes_nothing() -> None:
    network, rows = lively(SMALL), tokens(1, CONTEXT)
    changed = rows.clone()
    changed[0, 5] = (changed[0, 5] + 1) % VOCABULARY
    before, after = network(rows), network(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(-1).all()


@settings(max_examples=25)
@given(start=st.integers(0, 2000), distance=st.integers(0, 50), width=st.sampled_from([2, 4, 8]))
def test_rotary_positions_show_in_distances_alone(start: int, distance: int, width: int) -> None:
    queries, keys = (torch.randn(width, generator=torch.Generator().manual_seed(each)) for each in (1, 2))
    table = RotaryTable(width)

    def product(first: int) -> float:
        at_first, later = (
            rotated(each[None], table(place, 1, torch.float32))
            for each, place in ((queries, first), (keys, first + distance))
        )
        return float((at_first * later).sum())

    # Angles up to 2,050 rounded to 24 bits are off by 1.2e-4 at most, the products of unit numbers by as much.
    assert product(start) == pytest.approx(product(0), abs=2e-3)


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 4), (3, 1), (3, 2)])
def test_the_mask_hides_what_is_later(start: int, count: int) -> None:
    mask = causal_mask(start, count, torch.float32, torch.device("cpu"))
    expected = [[0.0 if key <= start + row else -np.inf for key in range(start + count)] for row in range(count)]
    assert mask.tolist() == expected


@pytest.mark.parametrize("length", [1, 2, 7])
def test_both_ways_to_attend_agree(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    parts = [torch.randn(2, 3, length, 8, generator=generator) for _ in range(3)]
    mask = causal_mask(0, length, torch.float32, torch.device("cpu"))
    queries, keys, values = parts
    # The same sums of at most 8 products and 7 weights in another order.
    torch.testing.assert_close(
        attend(queries, keys, values, mask), attend(queries, keys, values, None), rtol=1e-5, atol=1e-6
    )


def test_scores_are_written_out_for_short_bfloat16_on_a_processor_alone() -> None:
    hidden = torch.zeros(1, 4, 16)
    assert not writes_scores(hidden, 256)
    assert writes_scores(hidden.bfloat16(), 256)
    assert not writes_scores(hidden.bfloat16(), 4096)
    with torch.autocast("cpu", torch.bfloat16):
        assert writes_scores(hidden, 256)
    assert not writes_scores(hidden.bfloat16().to("meta"), 256)


def test_bfloat16_learns_what_float32_does() -> None:
    """Gradients in bfloat16 point where those of float32 do: 8 bits leave cosines above 0.99 in so small a network."""
    network, rows = lively(SMALL), tokens(4, CONTEXT)
    gradients = []
    for is_narrow in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_narrow):
            logits = network(rows)
        assert logits.dtype == (torch.bfloat16 if is_narrow else torch.float32)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None]))
    assert functional.cosine_similarity(gradients[0], gradients[1], 0) > 0.99


def test_fresh_weights_are_those_of_gpt_2() -> None:
    torch.manual_seed(0)
    asked = TransformerSettings(width=64, layers=8, heads=4, tied=False)
    found = build(asked, ((CONTEXT,),), 500)
    deviations = {name: float(each.detach().std()) for name, each in found.named_parameters() if each.ndim > 1}
    for name, deviation in deviations.items():
        wanted = 0.02 / 4 if name.endswith(("output.weight", "down.weight")) else 0.02
        # Of 4,096 draws and more the deviation is known to 1.1 %.
        assert deviation == pytest.approx(wanted, rel=0.05), name


def test_tied_weights_are_stored_once() -> None:
    assert not [name for name in lively(SMALL).state_dict() if name.startswith(("head", "table"))]


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=6), batch=st.integers(1, 3))
def test_reading_in_parts_is_reading_the_whole(cuts: list[int], batch: int) -> None:
    network = lively(SMALL)
    assert isinstance(network, Transformer)
    rows = tokens(batch, sum(cuts))
    state, found = network.empty_state(batch), []
    for part in rows.split(cuts, 1):  # type: ignore[no-untyped-call]
        logits, state = network.advance(part, state)
        found.append(logits)
    assert state.shape == (2, batch, 4, sum(cuts), 8)
    torch.testing.assert_close(torch.cat(found, 1), network(rows), rtol=TOLERANCE, atol=TOLERANCE)


def test_it_says_what_its_state_looks_like() -> None:
    network = lively(SMALL)
    assert isinstance(network, Stateful)
    assert state_form(network) == StateForm((2, 1, 4, 0, 8), 1, 3)
    assert state_form(network).example(3, 5).shape == (2, 3, 4, 5, 8)
    with pytest.raises(ValueError, match="Linear is not stateful"):
        Stepping(build(LinearSettings(), ((3,),), 2))


@pytest.mark.parametrize("shapes", [((3, 8, 8),), ((4,), (4,)), ()])
def test_what_is_no_row_of_tokens_is_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(StepFailed, match="transformer takes one row of tokens, the data has") as refusal:
        build(SMALL, shapes, 10)
    assert "prepare.task: language-modeling" in refusal.value.next


@pytest.mark.parametrize("length", [1, 5, 30])
def test_any_length_of_text_is_taken(length: int) -> None:
    answers: Any = lively(SMALL)(tokens(2, length))
    assert answers.shape == (2, length, VOCABULARY)


def test_dropout_acts_in_training_only() -> None:
    network = lively(TransformerSettings(width=16, layers=2, heads=2, dropout=0.5))
    rows = tokens(2, 5)
    assert torch.equal(network(rows), network(rows))
    network.train()
    assert not torch.equal(network(rows), network(rows))
