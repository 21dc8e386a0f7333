"""Training speed: `fit` beside a hand-tuned PyTorch loop in float32, on the same networks, data and batches.

    python bench/train.py [--job cnn|resnet|gpt|lstm]... [--precision float32|auto] [--rounds N] [--threads N] [--json]

Both ways train in turn, an epoch of made-up data and one batch of validation, each in a process of its own that has
trained once before: `fit` changes how the C library keeps memory. Prints samples per second of each, and the ratio of
each round's pair.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jobs import DECAY, JOBS, RATE, SEED, Job
from ratios import Ratio
from torch import Tensor, nn
from torch.nn import functional

from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.training.loop import fit
from mlctl.training.seeds import step_seed

NEARLY = 0.02  # relative difference of the two final losses that rounding in another order explains
REACH = 0.97


@dataclass(frozen=True)
class Trained:
    """One training: its seconds, and the loss on the validation batch at its end."""

    seconds: float
    loss: float


def with_fit(job: Job, *, precision: Literal["float32", "auto"]) -> Trained:
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
    """What a careful person would write, in float32; chance is drawn as `fit` draws it, so that the losses compare."""
    train, validation = job.train(), job.validation()
    started = time.perf_counter()
    network = job.fresh_network()
    if not job.is_text:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, targets = _tensors(job, train.inputs[0]), torch.from_numpy(train.targets).long()
    optimizer = torch.optim.AdamW(_groups(network), lr=RATE, fused=True)
    network.train()
    order = torch.from_numpy(np.random.default_rng((SEED, 0)).permutation(len(targets)))
    for step, indices in enumerate(order.split(job.batch)):  # type: ignore[no-untyped-call]
        torch.default_generator.manual_seed(step_seed(SEED, 0, step, 0))
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
        """Whether both learnt alike; only the rounding differs."""
        return abs(self.fit_loss - self.by_hand_loss) <= NEARLY * self.by_hand_loss


class Worker:
    """A process that trains one job one way whenever it is asked to."""

    def __init__(self, way: Callable[[Job], Trained], job: str, threads: int) -> None:
        self._here, there = multiprocessing.Pipe()
        # Started anew, not forked: a forked process would share torch's thread pool and the allocator's state.
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_work, args=(there, way, job, threads), daemon=True)
        self._process.start()

    def train(self) -> Trained:
        """One training."""
        self._here.send(None)
        found = self._here.recv()
        if not isinstance(found, Trained):
            raise TypeError(f"a worker sent {found!r}")
        return found

    def end(self) -> None:
        """Let the process go."""
        self._process.terminate()
        self._process.join()


def _work(asked: Connection, way: Callable[[Job], Trained], job: str, threads: int) -> None:
    torch.set_num_threads(threads)
    while True:
        asked.recv()
        asked.send(way(JOBS[job]))


def measure(name: str, precision: Literal["float32", "auto"], rounds: int, threads: int) -> Measured:
    """Both ways in turn, `rounds` times, after one training that warms each up."""
    job = JOBS[name]
    mlctl, hand = Worker(partial(with_fit, precision=precision), name, threads), Worker(by_hand, name, threads)
    own, other = [], []
    for number in range(-1, rounds):
        order = (mlctl, hand) if number % 2 else (hand, mlctl)
        found = {worker: worker.train() for worker in order}
        if number >= 0:
            own.append(found[mlctl])
            other.append(found[hand])
    mlctl.end()
    hand.end()
    rates = [[job.samples / each.seconds for each in way] for way in (own, other)]
    return Measured(
        name,
        statistics.median(rates[0]),
        statistics.median(rates[1]),
        Ratio.of(rates[0], rates[1], REACH if precision == "float32" else None),
        own[-1].loss,
        other[-1].loss,
        threads,
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
    for name in asked.job or JOBS:
        found = measure(name, asked.precision, asked.rounds, asked.threads)
        if asked.json:
            print(json.dumps(asdict(found)))
            continue
        agreement = "losses agree" if found.losses_agree else f"LOSSES {found.fit_loss:.4f}, {found.by_hand_loss:.4f}"
        print(f"{name:<7} {found.fit:>9,.1f} samples/s, by hand {found.by_hand:>9,.1f}: {found.ratio}, {agreement}")


if __name__ == "__main__":
    main()
