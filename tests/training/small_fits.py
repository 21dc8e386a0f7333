"""Small trainings: data that can be learnt, objectives, and one call of `fit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.events import Tell, silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    TransformerSettings,
)
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.training.batches import Samples
from mlctl.training.loop import Fitted, fit
from mlctl.training.tracking import Trackers

torch.set_num_threads(1)  # these networks are too small to be shared
CPU = torch.device("cpu")
CLASSES = 3
TOKENS, CONTEXT = 7, 6
CNN = CnnSettings(channels=(4, 6), dropout=0.2)
MLP = MlpSettings(hidden=(8,), dropout=0.2)
LSTM = LstmSettings(embedding=4, hidden=6, layers=2, dropout=0.2)
TRANSFORMER = TransformerSettings(width=8, layers=1, heads=2, dropout=0.2)


class Classification:
    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(outputs.double(), targets, reduction="sum")
        return torch.stack([losses, (outputs.argmax(1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        return tuple((totals / count).tolist())


class NextToken(Classification):
    """Of logits [B, T, V] for tokens [B, T]."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs.flatten(0, 1), targets.flatten())

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().totals(outputs.flatten(0, 1), targets.flatten()) / targets.shape[1]


class Scripted(Classification):
    """Validation figures from a list, one for each epoch."""

    def __init__(self, *figures: float) -> None:
        self.left = list(figures)

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        return self.left.pop(0), 0.5


class TextModel(CompleteModel):
    """A network that is given tokens as they are."""

    def preprocess(self, *raw: Tensor) -> tuple[Tensor, ...]:
        return raw


def text(tokens: int, seed: int) -> Samples:
    """Windows of a text in which every token but each fifth follows from the one before."""
    random = np.random.default_rng(seed)
    stream = np.zeros(tokens, np.uint8)
    for place in range(1, tokens):
        stream[place] = (stream[place - 1] * 3 + 1) % TOKENS if place % 5 else random.integers(TOKENS)
    windows = (tokens - 1) // CONTEXT
    inputs, targets = (stream[at : at + windows * CONTEXT].reshape(windows, CONTEXT) for at in (0, 1))
    return Samples((inputs,), targets, np.arange(windows), stream)


def patterns(count: int, seed: int) -> Samples:
    """Noisy 4×4 images, uint8 [N, 1, 4, 4], whose brightest part says their class of three."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    images = random.integers(0, 120, (count, 1, 4, 4))
    images[np.arange(count), 0, classes] += 80
    return Samples((images.astype(np.uint8),), classes.astype(np.int64))


@dataclass(frozen=True)
class Outcome:
    fitted: Fitted
    weights: dict[str, Tensor]


def is_text(network: NetworkSettings) -> bool:
    return isinstance(network, LstmSettings | TransformerSettings)


def small_model(network: NetworkSettings = CNN, seed: int = 0) -> CompleteModel:
    torch.manual_seed(seed)
    if is_text(network):
        return TextModel(build(network, ((CONTEXT,),), TOKENS), (), nn.Identity())
    return CompleteModel(build(network, ((1, 4, 4),), CLASSES), (InputScaling(255.0),), nn.Softmax(1))


def small_settings(**changes: Any) -> FitSettings:
    """Batches of 16, two epochs, float32, unless `changes` say otherwise."""
    return FitSettings.model_validate({"epochs": 2, "batch_size": 16, "precision": "float32", **changes})


def small_fit(
    resume: Path,
    network: NetworkSettings = CNN,
    tell: Tell = silent,
    objective: Any = None,
    samples: int = 77,
    seed: int = 0,
    model: CompleteModel | None = None,
    trackers: Trackers | None = None,
    **changes: Any,
) -> Outcome:
    """Train on `samples` patterns, or as many windows of a text, as `small_settings` with `changes` say."""
    taught = model or small_model(network, seed)
    if is_text(network):
        data = (text(samples * CONTEXT + 1, 1), text(40 * CONTEXT + 1, 2))
    else:
        data = (patterns(samples, 1), patterns(40, 2))
    told = objective or (NextToken() if is_text(network) else Classification())
    fitted = fit(
        taught,
        *data,
        told,
        small_settings(**changes),
        seed=seed,
        device=CPU,
        resume=resume,
        tell=tell,
        trackers=trackers,
    )
    return Outcome(fitted, {name: each.clone() for name, each in taught.network.state_dict().items()})


def assert_same(found: Outcome, expected: Outcome) -> None:
    """Every bit of the weights and of the history."""
    assert found.fitted.metrics_jsonl == expected.fitted.metrics_jsonl
    assert found.fitted.kept_epoch == expected.fitted.kept_epoch
    assert list(found.weights) == list(expected.weights)
    for name, tensor in found.weights.items():
        assert torch.equal(tensor, expected.weights[name]), name
