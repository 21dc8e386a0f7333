import torch
from torch import nn

from mlctl.compression.pruning.zeros_that_stay import MANY, zeros_that_stay


def half_empty() -> nn.Linear:
    layer = nn.Linear(8, 10)
    with torch.no_grad():
        layer.weight[:5] = 0.0
    return layer


def test_what_is_zero_stays_so_and_the_rest_moves() -> None:
    layer = half_empty()
    clear = zeros_that_stay(layer.parameters())
    assert clear
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    clear(0.5)
    assert (layer.weight[:5] == 0).all()
    assert torch.equal(layer.weight[5:], before[5:] + 1.0)


def test_few_zeros_and_those_of_biases_are_chance() -> None:
    layer = nn.Linear(100, 10)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight[0, : int(1000 * MANY) - 1] = 0.0
    assert zeros_that_stay(layer.parameters()) is None
