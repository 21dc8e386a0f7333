import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mlctl.models.complete import CompleteModel, InputScaling, Normalization


def test_channels_are_scaled_one_by_one_exactly_as_numpy_does_it_in_float32() -> None:
    scaling = InputScaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    image = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)
    mean, deviation = (np.array(each, np.float32)[:, None, None] for each in (scaling.mean, scaling.deviation))
    expected = (image.astype(np.float32) / np.float32(255) - mean) / deviation
    np.testing.assert_array_equal(Normalization(scaling)(torch.from_numpy(image)), expected)


finite = st.floats(-1e3, 1e3, width=32)


@given(
    scale=st.floats(0.5, 1e3),
    columns=st.lists(st.tuples(finite, finite, st.floats(0.125, 1e3, width=32)), min_size=1, max_size=6),
)
def test_columns_come_near_the_formula_in_float64(scale: float, columns: list[tuple[float, float, float]]) -> None:
    raw, mean, deviation = zip(*columns, strict=True)
    found = Normalization(InputScaling(scale, mean, deviation))(torch.tensor([raw, raw]))
    # Three float32 roundings, of numbers no larger than this, before the division.
    size = np.abs(raw).astype(np.float64) / scale + np.abs(mean)
    expected = (np.array(raw) / scale - np.array(mean)) / np.array(deviation)
    np.testing.assert_array_less(np.abs(found[1].numpy() - expected), 4 * 2**-24 * size / deviation + 1e-30)


def test_one_number_for_each_sample_is_scaled_too() -> None:
    found = Normalization(InputScaling(2.0, (1.0,), (4.0,)))(torch.tensor([10, 2]))
    assert found.tolist() == [1.0, 0.0]
    assert found.dtype == torch.float32


def test_what_needs_no_scaling_is_left_as_it_is() -> None:
    raw = torch.tensor([[0.1, -3.0]])
    assert Normalization(InputScaling())(raw) is raw


def test_training_and_serving_see_the_same_numbers() -> None:
    network = nn.Linear(3, 2)
    model = CompleteModel(network, (InputScaling(16.0),), nn.Softmax(1))
    raw = torch.randint(0, 17, (5, 3), dtype=torch.uint8)
    assert torch.equal(model.raw_outputs(raw), network(raw / 16))
    assert torch.equal(model(raw), torch.softmax(network(raw / 16), 1))


class Sum(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


def test_several_inputs_are_each_scaled_in_their_own_way() -> None:
    model = CompleteModel(Sum(), (InputScaling(10.0), InputScaling(mean=(1.0,))), nn.Identity())
    assert model(torch.tensor([[20.0]]), torch.tensor([[5.0]])).tolist() == [[6.0]]
    with pytest.raises(ValueError, match="shorter"):
        model(torch.tensor([[20.0]]))


def test_the_weights_file_holds_the_network_alone() -> None:
    model = CompleteModel(nn.Linear(3, 2), (InputScaling(1.0, (0.0,), (1.0,)),), nn.Softmax(1))
    assert list(model.state_dict()) == ["network.weight", "network.bias"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int64])
def test_tokens_are_looked_up_as_they_are(dtype: torch.dtype) -> None:
    network = nn.Embedding(200, 3)
    model = CompleteModel(network, (None,), nn.Identity())
    tokens = torch.tensor([[0, 199], [7, 7]])
    assert torch.equal(model(tokens.to(dtype)), network(tokens))
    assert model.preprocess(tokens)[0] is tokens
