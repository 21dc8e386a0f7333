"""Texts of any length: a transformer with positions and a mask, exported once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.errors import Unsupported
from mlctl.graphs.export import Exported, export
from mlctl.graphs.inspection import GraphPort, inspect
from mlctl.runtime.session import OnnxSession

WIDTH, HEADS, LONGEST = 16, 2, 64
SEQUENCE = {("ids", 1): "sequence", ("mask", 1): "sequence"}


class Encoder(nn.Module):
    """ids and mask int64 [B, T] to probabilities [B, 3]; only positions with a mask of 1 count."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, WIDTH)
        self.positions = nn.Embedding(LONGEST, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.queries = nn.Linear(WIDTH, 3 * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        state = self.norm(self.tokens(ids) + self.positions(torch.arange(ids.shape[1])))
        query, key, value = (
            each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in self.queries(state).chunk(3, -1)
        )
        seen = mask.bool()[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        state = state + mixed.transpose(1, 2).flatten(2)
        state = state + self.down(functional.gelu(self.up(state)))
        weight = mask[:, :, None].float()
        answers: Tensor = self.head((state * weight).sum(1) / weight.sum(1)).softmax(-1)
        return answers


class Seven(nn.Module):
    """Knows only sequences of 7."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        answers: Tensor = (ids * mask).reshape(-1, 7).float()
        return answers


def seeded() -> nn.Module:
    torch.manual_seed(3)
    return Encoder().eval()


def texts(batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Random ids; the mask of every other text ends early, but never before its first token."""
    generator = torch.Generator().manual_seed(length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[1::2, max(1, length // 2) :] = 0
    return torch.randint(0, 50, (batch, length), generator=generator), mask


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(
        seeded(),
        example=texts(2, 7),
        input_names=("ids", "mask"),
        output_name="probabilities",
        opset=20,
        metadata={},
        into=tmp_path_factory.mktemp("encoder"),
        open_dimensions=SEQUENCE,
    )


def test_batch_and_sequence_are_open_by_name(encoder: Exported) -> None:
    found = inspect(encoder.path)
    assert found.inputs == tuple(GraphPort(name, "int64", ("batch", "sequence")) for name in ("ids", "mask"))
    assert found.outputs == (GraphPort("probabilities", "float32", ("batch", 3)),)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 7), (3, 2), (2, 33), (5, LONGEST)])
def test_every_length_is_answered_as_torch_does(encoder: Exported, batch: int, length: int) -> None:
    rows = texts(batch, length)
    with torch.inference_mode():
        expected = seeded()(*rows).numpy()
    given = OnnxSession(encoder.path, threads=1)(tuple(each.numpy() for each in rows))
    # Probabilities after sums of at most 64 float32 products of order 1: a few units of 6e-8.
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6)


def test_without_its_name_the_length_stays_as_it_was(tmp_path: Path) -> None:
    found = export(
        seeded(),
        example=texts(2, 7),
        input_names=("ids", "mask"),
        output_name="y",
        opset=20,
        metadata={},
        into=tmp_path,
    )
    assert inspect(found.path).inputs[0].shape == ("batch", 7)


def test_a_network_that_freezes_the_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as refusal:
        export(
            Seven().eval(),
            example=texts(2, 7),
            input_names=("ids", "mask"),
            output_name="y",
            opset=20,
            metadata={},
            into=tmp_path,
            open_dimensions=SEQUENCE,
        )
    assert "sequence" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
