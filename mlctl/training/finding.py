"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3)."""

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite, log10

import torch

from mlctl.errors import Diverged
from mlctl.events import Progress, Tell
from mlctl.models.complete import CompleteModel
from mlctl.recipe.train import FitSettings
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch, Batches, Samples
from mlctl.training.failures import named_failures
from mlctl.training.learner import Learner
from mlctl.training.placing import placed
from mlctl.training.processes import Group
from mlctl.training.seeds import step_seed

LOWEST, HIGHEST = 1e-7, 10.0
STEPS = 100
SMOOTHING = 0.9
"""Share of the running mean in the next: it looks back over some ten steps, less than a decade of rates."""
BLOWN_UP = 4.0
"""How many times its minimum the smoothed loss may become."""
AROUND = 5
"""Steps on either side through which the slope at a rate is measured."""
LEAST_FALL = 0.02
"""Share of its first value by which the smoothed loss must fall for its slope to be more than noise."""


@dataclass(frozen=True)
class Found:
    """A range test: for every step its learning rate, the batch's loss before the step, and the smoothed loss.

    `suggestion` is a learning rate to try, and `reason` says in a sentence why it is this one, or why there is none.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str


def find_learning_rate(
    model: CompleteModel,
    train: Samples,
    objective: Objective,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    tell: Tell,
) -> Found:
    """Train with a rate that grows from step to step; `settings` decide all else, but neither epochs nor schedule.

    Everything random flows from `seed`, and the weights that `model` ends with are of no use. Raises Diverged where
    the first loss is not a number already, OutOfMemory, and StepFailed as `fit` does.
    """
    settings = settings.model_copy(update={"ema": None, "compile": False})
    with placed(model, device), named_failures(device):
        batches = Batches(train, settings.batch_size, device)
        learner = Learner(model, objective, settings, batches, group=Group.alone(), tell=tell)
        model.train()
        with closing(_endless(batches, seed)) as supply:

            def learn(step: int, rate: float) -> float:
                loss = float(learner.learn(next(supply), rate, step_seed(seed, 0, step, 0)).loss)
                tell(Progress("finding", step + 1, STEPS, "steps", f"learning rate {rate:.2e}  loss {loss:.4g}"))
                return loss

            return range_test(learn)


def range_test(learn: Callable[[int, float], float], steps: int = STEPS) -> Found:
    """Ask `learn` for the loss of each step, from 0, and then to step at its rate, until the loss blows up.

    The rates grow by the same factor from step to step, from `LOWEST` to `HIGHEST`. Raises Diverged where the first
    loss is not a finite number.
    """
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    running = 0.0
    for step in range(steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(steps - 1, 1))
        loss = learn(step, rate)
        if not isfinite(loss):
            break
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(running / (1 - SMOOTHING ** (step + 1)))  # unbiased (Kingma & Ba 2015, section 3)
        if smoothed[-1] > BLOWN_UP * min(smoothed):
            break
    if not losses:
        raise Diverged("the loss is not a finite number before anything was learnt", next="look at the prepared data")
    return Found(tuple(rates), tuple(losses), tuple(smoothed), *suggest(rates, smoothed))


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> tuple[float | None, str]:
    """A learning rate to try, and why: that at which the smoothed loss falls fastest, before it is least.

    Where it never falls for long enough to have a slope, a tenth of the rate at which it is least.
    """
    least = min(range(len(smoothed)), key=smoothed.__getitem__)
    if smoothed[0] - smoothed[least] < LEAST_FALL * abs(smoothed[0]):
        return None, f"the loss never falls by {LEAST_FALL:.0%} of what it begins with, so no rate stands out"
    bottom = f"the loss is least at {rates[least]:.2g}" + _end(rates)
    slopes = {place: _slope(rates, smoothed, place) for place in range(AROUND, least - AROUND + 1)}
    if not slopes:
        return rates[least] / 10, f"a tenth of the rate at which {bottom}"
    steepest = min(slopes, key=slopes.__getitem__)
    return rates[steepest], f"the loss falls fastest there; {bottom}"


def _end(rates: Sequence[float]) -> str:
    if rates[-1] < HIGHEST * 0.999:
        return f", and has blown up at {rates[-1]:.2g}"
    return f", and has not blown up at {HIGHEST:g}"


def _slope(rates: Sequence[float], smoothed: Sequence[float], place: int) -> float:
    """The least-squares slope of the smoothed loss over the logarithm of the rate, around `place`."""
    around = range(place - AROUND, place + AROUND + 1)
    logs = [log10(rates[each]) for each in around]
    values = [smoothed[each] for each in around]
    log, value = sum(logs) / len(logs), sum(values) / len(values)
    return sum((x - log) * (y - value) for x, y in zip(logs, values, strict=True)) / sum((x - log) ** 2 for x in logs)


def _endless(batches: Batches, seed: int) -> Generator[Batch]:
    """The batches of one epoch after the other."""
    for epoch in itertools.count():
        with closing(batches.shuffled(seed, epoch)) as supply:
            yield from supply
