import os
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import CNN, CPU, MLP, Classification, Scripted, assert_same, patterns, small_fit, small_model
from torch import Tensor, nn

from mlctl.errors import OutOfMemory, StepFailed
from mlctl.events import Event, Progress
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.recipe.networks import LinearSettings, NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, SgdSettings
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.training import rows
from mlctl.training.batches import Samples
from mlctl.training.history import last_improvement
from mlctl.training.loop import fit


@pytest.mark.parametrize("network", [CNN, MLP, LinearSettings()], ids=lambda each: each.arch)
def test_a_network_learns(tmp_path: Path, network: NetworkSettings) -> None:
    found = small_fit(tmp_path, network, samples=200, epochs=15, optimizer=AdamWSettings(lr=2e-2)).fitted
    _, accuracy = found.history[found.kept_epoch - 1].validation
    assert accuracy is not None
    assert accuracy > 0.9
    assert [record.epoch for record in found.history] == list(range(1, 16))
    assert [record.step for record in found.history] == [13 * epoch for epoch in range(1, 16)]  # ⌈200 / 16⌉ steps


def test_the_history_says_what_a_plain_loop_finds(tmp_path: Path) -> None:
    """One epoch of full-batch gradient descent on a linear regression, against the same by hand in float64."""
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(50, 3)).astype(np.float32), random.normal(size=50).astype(np.float32)
    held_out = Samples((features[:9] + 1,), targets[:9])
    model = CompleteModel(nn.Linear(3, 1), (InputScaling(2.0),), nn.Identity())
    weight, bias = (each.detach().double().numpy().copy() for each in model.network.parameters())
    settings = FitSettings(epochs=1, batch_size=64, optimizer=SgdSettings(lr=0.1), precision="float32")
    fitted = fit(
        model,
        Samples((features,), targets),
        held_out,
        Squares(),
        settings,
        seed=1,
        device=CPU,
        resume=tmp_path,
        tell=print,
    )
    error = features / 2 @ weight[0] + bias - targets
    weight = weight - 0.1 * 2 * (error[:, None] * features / 2).mean(0)
    bias = bias - 0.1 * 2 * error.mean()
    after = features[:9] / 2 + 0.5
    expected = (np.mean(error**2), np.mean((after @ weight[0] + bias - targets[:9]) ** 2))
    (record,) = fitted.history
    # Float32 sums of 50 numbers near 1.
    assert (record.train_loss, record.validation[0]) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.network.weight.detach().numpy(), weight, rtol=1e-5, atol=1e-6)  # type: ignore[operator]


class Squares(Classification):
    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"),)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).square().mean()

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).double().square().sum()[None]


def test_the_same_seed_ends_in_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    first = small_fit(tmp_path / "1")
    assert_same(small_fit(tmp_path / "2"), first)
    other = small_fit(tmp_path / "3", seed=1)
    assert other.fitted.metrics_jsonl != first.fitted.metrics_jsonl


def test_data_that_stays_on_disk_trains_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = small_fit(tmp_path / "resident")
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 0)
    assert_same(small_fit(tmp_path / "mapped"), resident)


def test_the_best_epochs_weights_are_kept_and_ties_keep_the_earlier(tmp_path: Path) -> None:
    best = small_fit(tmp_path / "1", objective=Scripted(3, 1, 2, 1), epochs=4)
    assert best.fitted.kept_epoch == 2
    last = small_fit(tmp_path / "2", objective=Scripted(3, 1, 2, 1), epochs=4, keep_best=None)
    assert last.fitted.kept_epoch == 4
    worse_after = small_fit(tmp_path / "3", objective=Scripted(3, 1, 2, 2), epochs=4)
    assert torch.equal(best.weights["head.weight"], worse_after.weights["head.weight"])
    assert not torch.equal(best.weights["head.weight"], last.weights["head.weight"])
    assert not torch.equal(best.weights["blocks.0.norm.running_mean"], last.weights["blocks.0.norm.running_mean"])


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    stopping = {"metric": "loss", "patience": 2, "min_delta": 0.1}
    found = small_fit(tmp_path, objective=Scripted(3, 2, 1.95, 1.94, 1), epochs=9, early_stopping=stopping).fitted
    assert (len(found.history), found.stopped_early, found.kept_epoch) == (4, True, 4)
    whole = small_fit(tmp_path / "whole", epochs=2, early_stopping=stopping).fitted
    assert not whole.stopped_early


def test_a_validation_that_is_never_a_number_keeps_the_last_epoch(tmp_path: Path) -> None:
    found = small_fit(tmp_path, objective=Scripted(nan, inf), epochs=2).fitted
    assert found.kept_epoch == 2
    assert [record.validation for record in found.history] == [(None, 0.5), (None, 0.5)]


@pytest.mark.parametrize("changes", [{"keep_best": "f1"}, {"early_stopping": {"metric": "f1"}}], ids=str)
def test_a_figure_that_nobody_watches_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match="'f1' is not watched while training") as refusal:
        small_fit(tmp_path, **changes)
    assert refusal.value.next == "choose one of loss, accuracy"


def test_a_lone_last_sample_joins_the_batch_before(tmp_path: Path) -> None:
    found = small_fit(tmp_path, samples=33, epochs=1).fitted
    assert found.history[0].step == 2


def test_batches_of_one_on_single_pixels_are_refused_in_words(tmp_path: Path) -> None:
    pixel = Samples((np.zeros((4, 1, 1, 1), np.uint8),), np.zeros(4, np.int64))
    settings = FitSettings(batch_size=1, precision="float32")
    with pytest.raises(StepFailed, match="more than one value") as refusal:
        fit(small_model(CNN), pixel, pixel, Classification(), settings, seed=0, device=CPU, resume=tmp_path, tell=print)
    assert "batch_size" in refusal.value.next


class Greedy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.ones(len(image), 1 << 50, 2))
        return outputs


def test_a_lack_of_memory_is_said_in_words(tmp_path: Path) -> None:
    model = CompleteModel(Greedy(), (InputScaling(),), nn.Identity())
    data = patterns(8, 0)
    with pytest.raises(OutOfMemory, match="cpu has no room") as refusal:
        fit(model, data, data, Classification(), FitSettings(), seed=0, device=CPU, resume=tmp_path, tell=print)
    assert "smaller network" in refusal.value.next


def test_the_model_ends_at_rest_in_the_plain_layout(tmp_path: Path) -> None:
    model = small_model()
    data = patterns(40, 0)
    fit(model, data, data, Classification(), FitSettings(epochs=1), seed=0, device=CPU, resume=tmp_path, tell=print)
    assert not any(module.training for module in model.modules())
    assert all(each.is_contiguous() and each.grad is None for each in model.network.parameters())


def test_bfloat16_comes_near_float32(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"epochs": 3, "optimizer": AdamWSettings(lr=1e-2)}
    exact = small_fit(tmp_path / "32", MLP, samples=300, **changes)
    short = small_fit(tmp_path / "16", MLP, samples=300, precision="bfloat16", **changes)
    assert short.fitted.precision.precision == "bfloat16"
    assert all(each.dtype == torch.float32 for each in short.weights.values())
    assert not torch.equal(short.weights["head.weight"], exact.weights["head.weight"])
    # bfloat16 keeps 8 bits: products are wrong by 0.4 %, and a loss near 0.5 by some times that.
    assert short.fitted.history[-1].train_loss == pytest.approx(exact.fitted.history[-1].train_loss, abs=0.02)


def test_progress_is_told_a_few_times_a_second(tmp_path: Path) -> None:
    told: list[Event] = []
    found = small_fit(tmp_path, tell=told.append, samples=2000, epochs=8).fitted
    progress = [event for event in told if isinstance(event, Progress)]
    seconds = 16000 / found.samples_per_second
    assert 1 <= len(progress) <= seconds / 0.2 + 1
    last = progress[-1]
    assert (last.what, last.unit, last.total) == ("training", "samples", 16000)
    assert last.detail.startswith("epoch ")
    assert "  loss " in last.detail
    assert last.rate is not None
    assert last.left == pytest.approx((last.total - last.done) / last.rate)
    assert [event.done for event in progress] == sorted(event.done for event in progress)


def test_fit_never_imports_the_compiler(tmp_path: Path) -> None:
    """`torch._dynamo` takes seconds, and every class of `torch.optim` imports it."""
    script = (
        "import sys; from pathlib import Path; from small_fits import small_fit\n"
        "for name in ('sgd', 'adam', 'adamw'):\n"
        "    small_fit(Path(sys.argv[1]) / name, optimizer={'name': name}, checkpoint_seconds=1e-9)\n"
        "assert 'torch' in sys.modules and 'torch._dynamo' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=True)


def test_the_kept_epoch_is_the_best_of_the_history(tmp_path: Path) -> None:
    found = small_fit(tmp_path, epochs=6, keep_best="accuracy", optimizer=AdamWSettings(lr=3e-2)).fitted
    figures = [record.validation[1] for record in found.history]
    best = last_improvement(figures, "higher")
    assert best is not None
    assert found.kept_epoch == best + 1
