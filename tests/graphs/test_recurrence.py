"""Recurrent layers of torch become those of ONNX, and nothing of an example's length stays in the graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlctl.graphs.export import export
from mlctl.graphs.inspection import GraphPort, inspect
from mlctl.graphs.recurrence import OnnxRecurrence, onnx_recurrence
from mlctl.graphs.torch_tracing import TracedNetwork
from mlctl.runtime.session import OnnxSession

KINDS = (nn.LSTM, nn.GRU)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def flat(answer: Any) -> list[Tensor]:
    outputs, state = answer
    return [outputs, *(state if isinstance(state, tuple) else (state,))]


def begun(kind: type[nn.LSTM] | type[nn.GRU], layers: int, batch: int) -> Any:
    hidden = torch.randn(layers, batch, 7, generator=torch.Generator().manual_seed(2))
    return (hidden, hidden.flip(0)) if kind is nn.LSTM else hidden


@every_kind
@pytest.mark.parametrize("is_batch_first", [False, True])
@pytest.mark.parametrize("is_bidirectional", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_what_stands_in_answers_the_same(
    kind: type[nn.LSTM] | type[nn.GRU], is_batch_first: bool, is_bidirectional: bool, has_bias: bool
) -> None:
    torch.manual_seed(3)
    layer = kind(5, 7, 3, batch_first=is_batch_first, bidirectional=is_bidirectional, bias=has_bias)
    model = nn.Sequential(layer).eval()
    rows = torch.randn(4, 6, 5)
    state = begun(kind, 3 * (1 + is_bidirectional), 4 if is_batch_first else 6)
    with torch.inference_mode():
        expected = flat(model[0](rows)) + flat(model[0](rows, state))
        with onnx_recurrence(model):
            assert [type(each) for each in model.children()] == [OnnxRecurrence]
            found = flat(model[0](rows)) + flat(model[0](rows, state))
    assert [*model.children()] == [layer]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


class Tagger(nn.Module):
    """float32 rows [B, T, 5] to numbers [B, T, 3], as somebody's own network might be."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body = kind(5, 7, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(14, 3)

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = self.head(self.body(rows)[0])
        return answers


def tagger(kind: type[nn.LSTM] | type[nn.GRU]) -> nn.Module:
    torch.manual_seed(4)
    return Tagger(kind).eval()


@every_kind
@pytest.mark.parametrize("opset", [18, 20, 23])
def test_a_network_of_ones_own_keeps_its_length_open(
    kind: type[nn.LSTM] | type[nn.GRU], opset: int, tmp_path: Path
) -> None:
    model = tagger(kind)
    found = export(
        model,
        example=(torch.zeros(2, 6, 5),),
        input_names=("rows",),
        output_name="y",
        opset=opset,
        metadata={},
        into=tmp_path,
        open_dimensions={("rows", 1): "sequence"},
    )
    assert inspect(found.path).outputs == (GraphPort("y", "float32", ("batch", "sequence", 3)),)
    assert dict(found.operators)[kind.__name__] == 2
    session = OnnxSession(found.path, threads=1)
    for shape in ((1, 1, 5), (3, 6, 5), (2, 40, 5)):
        rows = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1]))
        with torch.inference_mode():
            expected = model(rows).numpy()
        # Sums of some twenty products below 1 over 40 steps, float32 on both sides: some tens of roundings of 6e-8.
        np.testing.assert_allclose(session((rows.numpy(),)), expected, rtol=0, atol=5e-6)


@every_kind
def test_debugging_sees_the_same_numbers(kind: type[nn.LSTM] | type[nn.GRU]) -> None:
    model, rows = tagger(kind), torch.randn(2, 6, 5)
    traced = TracedNetwork(model, (rows,))
    seen = traced.run((rows.numpy(),))
    with torch.inference_mode():
        np.testing.assert_allclose(seen[traced.outputs[0]], model(rows).numpy(), rtol=0, atol=1e-6)
    assert [each.operator for each in traced.tensors if kind.__name__.lower() in each.operator]


def test_a_projection_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.LSTM(4, 6, proj_size=3))
    with onnx_recurrence(model):
        assert isinstance(model[0], nn.LSTM)


def test_the_original_is_back_after_a_failure() -> None:
    model = nn.Sequential(nn.GRU(4, 6))
    with pytest.raises(RuntimeError, match="on the way"), onnx_recurrence(model):
        raise RuntimeError("on the way")
    assert isinstance(model[0], nn.GRU)
