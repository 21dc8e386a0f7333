"""Trainings that are killed, each a process of its own: `python small_lives.py FOLDER NAME`.

The training NAME of LIVES runs once undisturbed and once through one kill after another: in the middle of a step, of a
validation, of writing a checkpoint, before and after it is renamed, and at random instants. Both leave their weights
and their history in FOLDER, and `kills.json` says which kills came true.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from small_fits import CNN, LSTM, MLP, TRANSFORMER, Classification, NextToken, is_text, small_fit

from mlctl.recipe.networks import NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule, MuonSettings, OneCycleSchedule, SgdSettings

LIVES: Final[dict[str, tuple[NetworkSettings, dict[str, Any]]]] = {
    "sgd": (CNN, {"optimizer": SgdSettings(lr=0.05, nesterov=True), "schedule": CosineSchedule(warmup=0.2)}),
    "everything": (
        CNN,
        {
            "optimizer": AdamWSettings(lr=1e-2),
            "schedule": OneCycleSchedule(),
            "ema": 0.9,
            "clip_norm": 0.5,
            "l1": 1e-4,
            "micro_batch": 6,
            "augment": {"shift": 1, "crop_padding": 1, "flip": True, "cutout": 2, "mixup": 0.3},
            "early_stopping": {"patience": 3},
        },
    ),
    "muon": (MLP, {"optimizer": MuonSettings(), "ema": 0.8, "keep_best": None}),
    "lstm": (LSTM, {"optimizer": AdamWSettings(lr=1e-2), "clip_norm": 1.0}),
    "transformer": (TRANSFORMER, {"optimizer": MuonSettings(), "schedule": CosineSchedule(), "micro_batch": 5}),
}
SAMPLES, EPOCHS = 77, 5  # five steps an epoch
# The last one may come when all is done.
KILLS: Final = ("loss 3", "fsync 2", "renaming 2", "renamed 2", "loss 6", "totals 2", "fsync 1", "chance")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way


class Countdown:
    """Calls what it was made from, and dies at one of the calls."""

    def __init__(self, call: Callable[..., Any], left: int, *, dies_first: bool = True) -> None:
        self.call, self.left, self.dies_first = call, left, dies_first

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0 and self.dies_first:
            die()
        result = self.call(*arguments)
        if self.left == 0:
            die()
        return result


def fit_once(folder: Path, name: str, objective: Any, resume: str) -> None:
    network, changes = LIVES[name]
    outcome = small_fit(
        folder / resume,
        network,
        objective=objective,
        samples=SAMPLES,
        checkpoint_seconds=1e-9,
        checkpoint_epochs=1,
        epochs=EPOCHS,
        **changes,
    )
    save_file(outcome.weights, folder / f"{resume}.safetensors")
    (folder / f"{resume}.jsonl").write_text(outcome.fitted.metrics_jsonl)


def doomed(folder: Path, name: str, kill: str) -> None:
    """Train as far as the kill lets it."""
    where, _, number = kill.partition(" ")
    objective: Any = NextToken() if is_text(LIVES[name][0]) else Classification()
    if where == "fsync":
        os.fsync = Countdown(os.fsync, int(number))  # type: ignore[assignment]
    elif where.startswith("renam"):
        replace = Countdown(Path.replace, int(number), dies_first=where == "renaming")
        Path.replace = lambda self, target: replace(self, target)  # type: ignore[method-assign]
    elif where in ("loss", "totals"):
        setattr(objective, where, Countdown(getattr(objective, where), int(number)))
    fit_once(folder, name, objective, "killed")


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, name: str) -> None:
    dice = random.Random(name)
    started = time.monotonic()
    assert status(in_child(lambda: fit_once(folder, name, None, "whole"))) == 0
    seconds = time.monotonic() - started
    kills = []
    for kill in KILLS:
        child = in_child(lambda kill=kill: doomed(folder, name, kill))  # type: ignore[misc]
        if kill == "chance":
            time.sleep(dice.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        kills.append(status(child) == -signal.SIGKILL)
    assert status(in_child(lambda: doomed(folder, name, "never"))) == 0
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
