"""Losses, gradients and weights that are no numbers, or explode: where, at what rate, and with which rows."""

import re
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from small_fits import Classification, small_fit
from torch import Tensor

from mlctl.errors import Diverged
from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule, SgdSettings
from mlctl.training.checkpoints import CheckpointFile


class Exploding(Classification):
    """A loss that is infinite at one call and so leaves weights that are not numbers."""

    def __init__(self, at: int) -> None:
        self.left = at

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        return super().loss(outputs, targets) * (1.0 if self.left else inf)


@pytest.mark.parametrize(
    ("step", "epoch", "rate"), [(1, 1, "0.00143"), (5, 1, "0.00714"), (6, 2, "0.00857"), (13, 3, "0.00611")]
)
def test_a_loss_that_is_no_number_is_named_by_its_first_step(tmp_path: Path, step: int, epoch: int, rate: str) -> None:
    warm = CosineSchedule(warmup=0.3)  # 6 of 20 steps
    with pytest.raises(Diverged) as refusal:
        small_fit(tmp_path, objective=Exploding(step), epochs=4, optimizer=AdamWSettings(lr=0.01), schedule=warm)
    place = (step - 1) % 5
    order = np.random.default_rng((0, epoch - 1)).permutation(77)[16 * place :]
    more = "8" if place == 4 else "11"  # the last batch of 77 has 13 samples
    assert refusal.value.what == (
        f"the loss is not a finite number at step {step} (epoch {epoch}), at a learning rate of {rate}; its batch: "
        f"samples {', '.join(map(str, order[:5]))} and {more} more"
    )


class Steep(Classification):
    """A loss whose value is right and whose gradient has no end at one call."""

    def __init__(self, at: int) -> None:
        self.left = at

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        loss = super().loss(outputs, targets)
        return loss if self.left else loss + (outputs - outputs.detach()).abs().sum().sqrt()


def test_a_gradient_without_an_end_is_named_where_gradients_are_clipped(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"^the length of the gradient is not a finite number at step 7 \(epoch 2\)"):
        small_fit(tmp_path, objective=Steep(7), epochs=4, clip_norm=1.0)


def test_weights_without_numbers_never_reach_a_checkpoint_though_every_loss_is_one(tmp_path: Path) -> None:
    """The last step of an epoch spoils the weights; the checkpoint of its end is refused."""
    with pytest.raises(Diverged, match=r"^a weight is not a finite number"):
        small_fit(tmp_path, objective=Steep(5), epochs=2, checkpoint_epochs=1, checkpoint_seconds=1e9)
    assert CheckpointFile(tmp_path, 30, silent).read(total_steps=10) is None


class Growing(Classification):
    """A loss that is multiplied by more and more from some call on."""

    def __init__(self, since: int, factor: float) -> None:
        self.calls = 0
        self.since, self.factor = since, factor

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return super().loss(outputs, targets) * self.factor ** max(0, self.calls - self.since)


def test_a_loss_that_explodes_without_an_end_is_stopped(tmp_path: Path) -> None:
    """Times 2 from step 9 on, and 100 is passed in step 15 or so: the median of the third epoch's five steps is."""
    with pytest.raises(Diverged) as refusal:
        small_fit(tmp_path, objective=Growing(8, 2.0), epochs=50, optimizer=AdamWSettings(lr=1e-9))
    assert re.match(
        r"the loss has grown from 1\.\d+ at the first step to \d+(\.\d)? at step 20 \(epoch 4\), at a learning rate of "
        r"1e-09; its batch: samples ",
        refusal.value.what,
    )
    assert refusal.value.exit_code == 4
    assert "learning rate" in refusal.value.next


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="at step 3 "):
        small_fit(tmp_path, objective=Exploding(3), checkpoint_seconds=1e-9)
    kept = CheckpointFile(tmp_path, 30, silent).read(total_steps=10)
    assert kept is not None
    assert kept.step in (1, 2)  # the second may have been due while the first was still being written
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.tensors.values())


@pytest.mark.parametrize(
    "optimizer", [SgdSettings(lr=1.0), AdamWSettings(lr=0.3), SgdSettings(lr=1e-6)], ids=lambda each: str(each.lr)
)
def test_a_training_that_is_only_bad_is_let_be(tmp_path: Path, optimizer: object) -> None:
    """Rates far too high and far too low, with all the spikes that they bring."""
    found = small_fit(tmp_path, epochs=15, optimizer=optimizer).fitted
    assert len(found.history) == 15
