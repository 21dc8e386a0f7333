"""Batch normalization's figures are those of the rows that are given, and nothing else moves."""

import pytest
import torch
from torch import Tensor, nn
from unit_groups import chain, complete, images

from mlctl.compression.pruning.batch_statistics import take_batch_statistics
from mlctl.errors import StepFailed
from mlctl.training.batches import Batch

SIZES = (8, 8, 3)


def rows(*shape: int) -> list[Batch]:
    dice = torch.Generator().manual_seed(2)
    return [Batch((torch.randn(size, *shape, generator=dice) * 3 + 1,), torch.zeros(size)) for size in SIZES]


def test_running_figures_are_the_means_over_all_samples() -> None:
    network, _ = images()
    network.norm.momentum = 0.3
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.head.train()
    batches = rows(2, 5, 5)
    assert take_batch_statistics(complete(network), batches) == 1
    with torch.no_grad():
        answers = [network.first(batch.inputs[0]).double() for batch in batches]
    means = torch.stack([each.mean((0, 2, 3)) * size for each, size in zip(answers, SIZES, strict=True)])
    variances = torch.stack([each.var((0, 2, 3)) * size for each, size in zip(answers, SIZES, strict=True)])
    # float32 means of some hundred values.
    torch.testing.assert_close(network.norm.running_mean, (means.sum(0) / sum(SIZES)).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.norm.running_var, (variances.sum(0) / sum(SIZES)).float(), rtol=1e-5, atol=1e-5)
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert network.norm.momentum == 0.3
    assert (network.norm.training, network.head.training) == (False, True)


def test_a_training_would_have_found_the_same_with_a_cumulative_mean() -> None:
    network, _ = images()
    other, _ = images()
    batches = rows(2, 5, 5)[:2]
    take_batch_statistics(complete(network), batches)
    other.norm.momentum = None
    other.norm.reset_running_stats()
    other.norm.train()
    with torch.no_grad():
        for batch in batches:
            other(*batch.inputs)
    torch.testing.assert_close(network.norm.running_mean, other.norm.running_mean)
    torch.testing.assert_close(network.norm.running_var, other.norm.running_var)
    assert network.norm.num_batches_tracked == other.norm.num_batches_tracked == 2


def test_chance_has_no_part() -> None:
    def taken() -> Tensor:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9), nn.BatchNorm1d(4)).train()
        torch.seed()
        take_batch_statistics(complete(network), rows(3))
        figures = network[2].running_mean
        assert isinstance(figures, Tensor)
        return figures

    assert torch.equal(taken(), taken())


def test_a_layer_that_is_called_twice_has_the_mean_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3, affine=False)
            self.unused = nn.BatchNorm1d(3)

        def forward(self, values: Tensor) -> Tensor:
            self.norm(values)
            found: Tensor = self.norm(values + 10)
            return found

    network = Twice()
    nn.init.constant_(network.unused.get_buffer("running_mean"), 7)
    batches = rows(3)
    assert take_batch_statistics(complete(network), batches) == 1
    wanted = torch.cat([batch.inputs[0] for batch in batches]).mean(0) + 5
    torch.testing.assert_close(network.norm.running_mean, wanted)
    assert network.unused.get_buffer("running_mean").tolist() == [7, 7, 7]


def test_without_batch_normalization_no_row_is_read() -> None:
    network, _ = chain((3, 4, 2))

    def refusing() -> list[Batch]:
        raise AssertionError("read")

    batches = (batch for _ in range(1) for batch in refusing())
    assert take_batch_statistics(complete(network), batches) == 0
    plain = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    assert take_batch_statistics(complete(plain), batches) == 0


def test_a_sample_alone_has_no_variance() -> None:
    network, _ = images()
    with pytest.raises(StepFailed, match="a batch of one sample") as failed:
        take_batch_statistics(complete(network), [Batch((torch.zeros(1, 2, 5, 5),), torch.zeros(1))])
    assert "samples" in failed.value.next
