import copy
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from mlctl.training.weight_mean import WeightMean


class Tied(nn.Module):
    """Two layers that share their weights, batch statistics, and a buffer of whole numbers."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


def moved(network: nn.Module, step: int) -> None:
    """Another place for every weight and every statistic."""
    source = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for each in (*network.parameters(), *network.buffers()):
            if each.is_floating_point():
                each.copy_(torch.randn(each.shape, generator=source))


def expected_mean(start: Tensor, values: list[Tensor], decay: float) -> Tensor:
    mean = start.double()
    for number, value in enumerate(values, start=1):
        kept = min(decay, (1 + number) / (10 + number))
        mean = kept * mean + (1 - kept) * value.double()
    return mean


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_mean_follows_its_definition_in_float64(decay: float) -> None:
    network = Tied()
    names = ["first.weight", "first.bias", "norm.weight", "norm.running_var"]
    start = {name: network.state_dict()[name].clone() for name in names}
    mean = WeightMean(network, decay)
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for step in range(50):
        moved(network, step)
        for name in names:
            seen[name].append(network.state_dict()[name].clone())
        mean.update()
    with mean.in_network():
        for name in names:
            wanted = expected_mean(start[name], seen[name], decay)
            # 50 float32 additions of numbers near 1.
            torch.testing.assert_close(network.state_dict()[name].double(), wanted, rtol=1e-5, atol=1e-5)


def test_the_trained_weights_are_back_afterwards_bit_for_bit_whatever_happens() -> None:
    network = Tied()
    mean = WeightMean(network, 0.9)
    moved(network, 1)
    mean.update()
    trained = copy.deepcopy(network.state_dict())
    with suppress(ZeroDivisionError), mean.in_network():
        assert not torch.equal(network.first.weight, trained["first.weight"])
        raise ZeroDivisionError
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trained[name]), name
    assert network.second.weight is network.first.weight


@pytest.mark.parametrize("is_within", [False, True])
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(is_within: bool) -> None:
    through, stopped = Tied(), Tied()
    stopped.load_state_dict(through.state_dict())
    whole, first_half = WeightMean(through, 0.99), WeightMean(stopped, 0.99)
    for step in range(5):
        for network, mean in ((through, whole), (stopped, first_half)):
            moved(network, step)
            mean.update()
    if is_within:
        first_half.exchange()
    weights = {name: tensor.clone() for name, tensor in stopped.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in first_half.state().items()}
    again = Tied()
    second_half = WeightMean(again, 0.99)
    again.load_state_dict(weights)
    second_half.load(state)
    assert all(map(torch.equal, again.state_dict().values(), through.state_dict().values()))
    for step in range(5, 9):
        for network, mean in ((through, whole), (again, second_half)):
            moved(network, step)
            mean.update()
    with whole.in_network(), second_half.in_network():
        assert all(map(torch.equal, again.state_dict().values(), through.state_dict().values()))


def test_a_state_with_a_tensor_missing_is_refused() -> None:
    mean = WeightMean(Tied(), 0.9)
    for name in mean.state():
        state = dict(mean.state())
        state.pop(name)
        with pytest.raises(KeyError, match=name.replace(".", r"\.")):
            mean.load(state)
