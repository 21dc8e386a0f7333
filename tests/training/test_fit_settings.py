"""What settings do to a training, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import CNN, CPU, MLP, Classification, Scripted, patterns, small_fit, small_model
from torch import Tensor, nn

from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.recipe.networks import NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, SgdSettings
from mlctl.recipe.train import FitSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training import rows
from mlctl.training.batches import Samples
from mlctl.training.loop import fit
from mlctl.training.tracker import Ending, EpochFigures
from mlctl.training.tracking import Trackers


def test_every_setting_of_the_loss_is_what_it_says(tmp_path: Path) -> None:
    """Four steps of a softmax regression with class weights, smoothed labels, L1, clipping and a running mean, in
    micro-batches, against the same by hand in float64."""
    random = np.random.default_rng(0)
    features, classes = random.normal(size=(50, 4)).astype(np.float32), random.integers(0, 3, 50)
    model = CompleteModel(nn.Linear(4, 3), (InputScaling(),), nn.Identity())
    start = [each.detach().double().numpy().copy() for each in model.network.parameters()]
    weights = np.array([0.2, 1.0, 2.5])
    settings = FitSettings(
        epochs=4, batch_size=64, micro_batch=17, optimizer=SgdSettings(lr=0.5, momentum=0.0), precision="float32",
        l1=0.01, clip_norm=0.3, ema=0.6, keep_best=None,
    )  # fmt: skip
    data = Samples((features,), classes)
    fitted = fit(
        model,
        data,
        data,
        CrossEntropy(0.1, weights.tolist()),
        settings,
        seed=1,
        device=CPU,
        resume=tmp_path,
        tell=print,
    )
    weight, bias = start
    means = [each.copy() for each in start]
    truth = np.eye(3)[classes] * 0.9 + 0.1 / 3
    losses = []
    for step in range(1, 5):
        logits = features @ weight.T + bias
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        counted = weights[classes][:, None]
        losses.append(-(counted * truth * np.log(shares)).sum() / 50)
        error = counted * (shares - truth) / 50
        gradients = [error.T @ features, error.sum(0)]
        length = np.sqrt(sum((each**2).sum() for each in gradients))
        gradients = [each * min(1.0, 0.3 / length) for each in gradients]
        assert length > 0.3 or step > 1
        weight = weight - 0.5 * (gradients[0] + 0.01 * np.sign(weight))
        bias = bias - 0.5 * gradients[1]
        kept = min(0.6, (1 + step) / (10 + step))
        means = [kept * mean + (1 - kept) * new for mean, new in zip(means, (weight, bias), strict=True)]
    # Float32 sums of 50 numbers near 1.
    assert [record.train_loss for record in fitted.history] == pytest.approx(losses, rel=1e-5)
    for found, expected in zip(model.network.parameters(), means, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    logits = features @ means[0].T + means[1]
    plain = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), classes]
    # What is validated is the mean, by the plain loss.
    assert fitted.history[-1].validation[0] == pytest.approx(plain.mean(), rel=1e-5)


def test_the_mean_of_the_best_epoch_is_kept(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema": 0.9, "epochs": 4, "optimizer": AdamWSettings(lr=1e-2)}
    best = small_fit(tmp_path / "best", objective=Scripted(3, 1, 2, 2), **changes)
    until = small_fit(tmp_path / "until", objective=Scripted(3, 1), **{**changes, "epochs": 2})
    assert best.fitted.kept_epoch == 2
    for name, weights in best.weights.items():
        assert torch.equal(weights, until.weights[name]), name


class Onlooker(nn.Module):
    """Remembers what it was shown, in training and at rest."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.shown: dict[bool, list[Tensor]] = {True: [], False: []}

    def forward(self, image: Tensor) -> Tensor:
        self.shown[self.training].append(image.detach().clone())
        outputs: Tensor = self.head(image.flatten(1))
        return outputs


def test_only_what_is_learnt_from_is_augmented(tmp_path: Path) -> None:
    onlooker = Onlooker()
    small_fit(tmp_path, model=CompleteModel(onlooker, (InputScaling(),), nn.Identity()), augment={"shift": 2}, epochs=1)
    seen, held_out = torch.cat(onlooker.shown[True]), torch.cat(onlooker.shown[False])
    assert torch.equal(held_out, torch.from_numpy(patterns(40, 2).inputs[0]).float())
    order = np.random.default_rng((0, 0)).permutation(77)
    plain = torch.from_numpy(patterns(77, 1).inputs[0][order]).float()
    moved = (seen != plain).flatten(1).any(1)
    # Of 25 places one is where the image was: all but 3 of 77 images, give or take five deviations of 1.7.
    assert 65 <= int(moved.sum()) <= 77


class Listener:
    def __init__(self) -> None:
        self.heard: list[EpochFigures] = []

    def epoch(self, figures: EpochFigures) -> None:
        self.heard.append(figures)

    def close(self, ending: Ending) -> None:
        raise AssertionError(ending)


def test_trackers_hear_of_every_epoch_and_of_known_ones_again_after_a_resume(tmp_path: Path) -> None:
    first, second = Listener(), Listener()
    found = small_fit(tmp_path, epochs=3, checkpoint_epochs=3, trackers=Trackers([first]))
    expected = [EpochFigures.of(record, ("loss", "accuracy")) for record in found.fitted.history]
    assert first.heard == expected
    small_fit(tmp_path, epochs=3, trackers=Trackers([second]))
    assert second.heard == expected


def chosen(folder: Path, network: NetworkSettings, **changes: Any) -> dict[str, str]:
    return {each.about: each.text for each in small_fit(folder, network, **changes).fitted.choices}


def test_what_was_chosen_is_said_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = chosen(tmp_path / "plain", CNN, precision="auto")
    assert plain.pop("precision").partition(": ")[0] in ("float32", "bfloat16")
    assert plain == {
        "device": "cpu",
        "layout": "channels last: the network has kernels over images",
        "data": "resident: all of it fits into the memory of cpu",
        "micro_batch": "16: a whole batch at once",
        "compile": "no: the recipe does not ask",
        "allocator": "keeps freed memory: every step wants as much again (glibc's mallopt)",
    }
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 0)
    other = chosen(tmp_path / "other", MLP, micro_batch=5)
    assert other["layout"] == "plain: the network has no kernels over images"
    assert other["data"].startswith("prefetched: too large for the memory of cpu")
    assert other["micro_batch"] == "5: the recipe asks for it"


def test_chance_elsewhere_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    data = patterns(40, 0)
    model = small_model(MLP)
    torch.manual_seed(5)
    fit(model, data, data, Classification(), FitSettings(epochs=1), seed=0, device=CPU, resume=tmp_path, tell=print)
    assert torch.equal(torch.rand(3), expected)
