"""Training speed: `fit` beside a hand-tuned PyTorch loop, on the same network, data, batches and precision.

Both train the digits CNN (8×8 pixels, channels 32, 64 and 64, batch 128, float32), validate after every epoch and
keep the best weights, in turn within one process. Prints samples per second of each and the ratio of each round's pair.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ratios import Ratio
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from mlctl.events import silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.recipe.vocabulary import Direction
from mlctl.training.batches import Samples
from mlctl.training.loop import fit

BATCH = 128
RATE = 2e-3
SEED = 7
NEARLY = 0.02  # relative difference of the two final losses that rounding in another order explains
REACH = 0.95


class Classification:
    """Cross-entropy, and the accuracy to watch."""

    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(outputs, targets, reduction="sum")
        return torch.stack([losses.double(), (outputs.argmax(1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        return tuple((totals / count).tolist())


def digits() -> tuple[Samples, Samples]:
    """1,527 digits to learn from and 270 to validate on: uint8 [N, 1, 8, 8], int64 [N]."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    images = loaded.images.astype(np.uint8)[order, None]
    targets = loaded.target.astype(np.int64)[order]
    return Samples((images[270:],), targets[270:]), Samples((images[:270],), targets[:270])


def fresh_network() -> nn.Module:
    torch.manual_seed(SEED)
    return build(CnnSettings(channels=(32, 64, 64)), ((1, 8, 8),), 10)


def with_fit(train: Samples, validation: Samples, epochs: int) -> float:
    """The final validation loss."""
    model = CompleteModel(fresh_network(), (InputScaling(16.0),), nn.Softmax(1))
    settings = FitSettings(epochs=epochs, batch_size=BATCH, optimizer=AdamWSettings(lr=RATE), precision="float32")
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            model,
            train,
            validation,
            Classification(),
            settings,
            seed=SEED,
            device=torch.device("cpu"),
            resume=Path(folder),
            tell=silent,
        )
    return fitted.history[-1].validation[0] or 0.0


def by_hand(train: Samples, validation: Samples, epochs: int) -> float:
    """The final validation loss of what a careful person would write."""
    network = fresh_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, targets = torch.from_numpy(train.inputs[0]), torch.from_numpy(train.targets)
    held_images, held_targets = torch.from_numpy(validation.inputs[0]) / 16, torch.from_numpy(validation.targets)
    decayed = [each for each in network.parameters() if each.ndim > 1]
    free = [each for each in network.parameters() if each.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    lowest, loss = float("inf"), 0.0
    for epoch in range(epochs):
        network.train()
        order = torch.from_numpy(np.random.default_rng((SEED, epoch)).permutation(len(targets)))
        for indices in order.split(BATCH):  # type: ignore[no-untyped-call]
            outputs = network(images[indices] / 16)
            functional.cross_entropy(outputs, targets[indices]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        network.eval()
        with torch.inference_mode():
            loss = float(functional.cross_entropy(network(held_images), held_targets))
        if loss < lowest:
            lowest, _best = loss, copy.deepcopy(network.state_dict())
    return loss


def timed(way: Callable[[Samples, Samples, int], float], epochs: int) -> tuple[float, float]:
    """Samples trained on per second, and the final validation loss."""
    train, validation = digits()
    started = time.perf_counter()
    loss = way(train, validation, epochs)
    return train.count * epochs / (time.perf_counter() - started), loss


@dataclass(frozen=True)
class Measured:
    """Medians of the rounds' rates in samples per second, the ratio `fit` over by hand, and the final losses."""

    fit: float
    by_hand: float
    ratio: Ratio
    fit_loss: float
    by_hand_loss: float
    losses_agree: bool
    threads: int


def measure(rounds: int, epochs: int) -> Measured:
    """Both ways in turn, `rounds` times, after one short training that warms each up."""
    for way in (with_fit, by_hand):
        timed(way, 1)
    own, other, losses = [], [], (0.0, 0.0)
    for number in range(rounds):
        order = [with_fit, by_hand] if number % 2 else [by_hand, with_fit]
        found = {way: timed(way, epochs) for way in order}
        own.append(found[with_fit][0])
        other.append(found[by_hand][0])
        losses = found[with_fit][1], found[by_hand][1]
    return Measured(
        fit=statistics.median(own),
        by_hand=statistics.median(other),
        ratio=Ratio.of(own, other, REACH),
        fit_loss=losses[0],
        by_hand_loss=losses[1],
        losses_agree=abs(losses[0] - losses[1]) <= NEARLY * losses[1],
        threads=torch.get_num_threads(),
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = measure(asked.rounds, asked.epochs)
    if asked.json:
        print(json.dumps(asdict(found)))
        return
    print(f"fit      {found.fit:>8,.0f} samples/s, final validation loss {found.fit_loss:.4f}")
    print(f"by hand  {found.by_hand:>8,.0f} samples/s, final validation loss {found.by_hand_loss:.4f}")
    agreement = "the losses agree" if found.losses_agree else "THE LOSSES DIFFER"
    print(f"ratio    {found.ratio}, {agreement}")


if __name__ == "__main__":
    main()
