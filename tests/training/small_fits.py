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
from mlctl.recipe.networks import CnnSettings, MlpSettings, NetworkSettings
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.training.batches import Samples
from mlctl.training.loop import Fitted, fit

torch.set_num_threads(1)  # these networks are too small to be shared
CPU = torch.device("cpu")
CLASSES = 3
CNN = CnnSettings(channels=(4, 6), dropout=0.2)
MLP = MlpSettings(hidden=(8,), dropout=0.2)


class Classification:
    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(outputs.double(), targets, reduction="sum")
        return torch.stack([losses, (outputs.argmax(1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        return tuple((totals / count).tolist())


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


def small_model(network: NetworkSettings = CNN, seed: int = 0) -> CompleteModel:
    torch.manual_seed(seed)
    return CompleteModel(build(network, ((1, 4, 4),), CLASSES), (InputScaling(255.0),), nn.Softmax(1))


def small_fit(
    resume: Path,
    network: NetworkSettings = CNN,
    tell: Tell = silent,
    objective: Any = None,
    samples: int = 77,
    seed: int = 0,
    **changes: Any,
) -> Outcome:
    """Train on `samples` patterns in batches of 16, two epochs unless `changes` to the settings say otherwise."""
    settings = FitSettings.model_validate({"epochs": 2, "batch_size": 16, "precision": "float32", **changes})
    model = small_model(network, seed)
    data = (patterns(samples, 1), patterns(40, 2))
    told = objective or Classification()
    fitted = fit(model, *data, told, settings, seed=seed, device=CPU, resume=resume, tell=tell)
    return Outcome(fitted, {name: each.clone() for name, each in model.network.state_dict().items()})


def assert_same(found: Outcome, expected: Outcome) -> None:
    """Every bit of the weights and of the history."""
    assert found.fitted.metrics_jsonl == expected.fitted.metrics_jsonl
    assert found.fitted.kept_epoch == expected.fitted.kept_epoch
    assert list(found.weights) == list(expected.weights)
    for name, tensor in found.weights.items():
        assert torch.equal(tensor, expected.weights[name]), name
