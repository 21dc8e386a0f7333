"""Training speed: `fit` beside a hand-tuned PyTorch loop in float32, on the same networks, data and batches.

    python bench/train.py [--job cnn|resnet|gpt|lstm]... [--precision float32|auto] [--rounds N] [--threads N] [--json]

Both ways train in turn within one process, an epoch of made-up data and one batch of validation. Prints samples per
second of each, and the ratio of each round's pair.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from jobs import DECAY, JOBS, RATE, SEED, Job
from ratios import Ratio
from torch import Tensor, nn
from torch.nn import functional

from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.training.loop import fit

NEARLY = 0.02  # relative difference of the two final losses that rounding in another order explains
REACH = 0.97


@dataclass(frozen=True)
class Trained:
    """One training: its seconds, and the loss on the validation batch at its end."""

    seconds: float
    loss: float


def with_fit(job: Job, precision: Literal["float32", "auto"]) -> Trained:
    """As `mlctl train` does it."""
    train, validation = job.train(), job.validation()
    optimizer = AdamWSettings(lr=RATE, weight_decay=DECAY)
    settings = FitSettings(epochs=1, batch_size=job.batch, optimizer=optimizer, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitted = fit(
            job.complete(job.fresh_network()),
            train,
            validation,
            job.objective(),
            settings,
            seed=SEED,
            device=torch.device("cpu"),
            resume=Path(folder),
            tell=silent,
        )
        return Trained(time.perf_counter() - started, fitted.history[-1].validation[0] or 0.0)


def by_hand(job: Job) -> Trained:
    """What a careful person would write, in float32."""
    train, validation = job.train(), job.validation()
    started = time.perf_counter()
    network = job.fresh_network()
    if not job.is_text:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, targets = _tensors(job, train.inputs[0]), torch.from_numpy(train.targets).long()
    optimizer = torch.optim.AdamW(_groups(network), lr=RATE, fused=True)
    network.train()
    for indices in torch.randperm(len(targets)).split(job.batch):  # type: ignore[no-untyped-call]
        loss = _loss(network(_scaled(job, inputs[indices])), targets[indices])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    network.eval()
    with torch.inference_mode():
        held_out = _tensors(job, validation.inputs[0])
        loss = _loss(network(_scaled(job, held_out)), torch.from_numpy(validation.targets).long())
    return Trained(time.perf_counter() - started, float(loss))


def _tensors(job: Job, array: object) -> Tensor:
    found = torch.as_tensor(array)
    return found.long() if job.is_text else found


def _scaled(job: Job, inputs: Tensor) -> Tensor:
    return inputs if job.is_text else inputs.float().div_(255).contiguous(memory_format=torch.channels_last)


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _groups(network: nn.Module) -> list[dict[str, object]]:
    decayed = [each for each in network.parameters() if each.ndim > 1]
    free = [each for each in network.parameters() if each.ndim <= 1]
    return [{"params": decayed, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Measured:
    """Medians of the rounds' rates in samples per second, the ratio `fit` over by hand, and the final losses."""

    job: str
    fit: float
    by_hand: float
    ratio: Ratio
    fit_loss: float
    by_hand_loss: float
    threads: int

    @property
    def losses_agree(self) -> bool:
        """Whether both learnt alike; the order of the samples differs, and on made-up data that is all."""
        return abs(self.fit_loss - self.by_hand_loss) <= NEARLY * self.by_hand_loss


def measure(name: str, precision: Literal["float32", "auto"], rounds: int) -> Measured:
    """Both ways in turn, `rounds` times, after one training that warms each up."""
    job, own, other = JOBS[name], [], []
    mine, theirs = with_fit(job, precision), by_hand(job)
    for number in range(rounds):
        if number % 2:
            mine, theirs = with_fit(job, precision), by_hand(job)
        else:
            theirs, mine = by_hand(job), with_fit(job, precision)
        own.append(job.samples / mine.seconds)
        other.append(job.samples / theirs.seconds)
    reach = REACH if precision == "float32" else None
    return Measured(
        name,
        statistics.median(own),
        statistics.median(other),
        Ratio.of(own, other, reach),
        mine.loss,
        theirs.loss,
        torch.get_num_threads(),
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", choices=tuple(JOBS), action="append")
    parser.add_argument("--precision", choices=("float32", "auto"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.job or JOBS:
        found = measure(name, asked.precision, asked.rounds)
        if asked.json:
            print(json.dumps(asdict(found)))
            continue
        agreement = "losses agree" if found.losses_agree else f"LOSSES {found.fit_loss:.4f}, {found.by_hand_loss:.4f}"
        print(f"{name:<7} {found.fit:>9,.1f} samples/s, by hand {found.by_hand:>9,.1f}: {found.ratio}, {agreement}")


if __name__ == "__main__":
    main()
