"""Whether a training that was killed and resumed ends in the same weights as one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlctl.digests import file_digest
from mlctl.engine.plan import Plan, PlannedStep
from mlctl.engine.store import Store, remove
from mlctl.errors import StepFailed
from mlctl.events import Note, Tell, Waiting
from mlctl.training.interrupts import DeferredSignals

FOLDER: Final = "verify"
DIFFERENT: Final = 21
"""Exit code where the weights differ: that of a failed parity gate, for it is a finding and no crash."""
TRAIN: Final = "from mlctl.stages import peers; peers.die_with_parent(); from mlctl.cli.main import main; main()"
TRAIN_AND_DIE: Final = f"from mlctl.training.dying import die; die({{}}, {{}}); {TRAIN}"
WEIGHTS: Final = "model.safetensors"
HISTORY: Final = "metrics.jsonl"
CHECKPOINT: Final = "checkpoint.safetensors"
NOT_FOR_COPIES: Final = ("WORLD_SIZE", "SLURM_STEP_ID", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
"""What would make a copy one of several processes, or let it speak to others than this one."""


@dataclass(frozen=True)
class ResumeCheck:
    """A train step, trained once undisturbed and once killed and resumed, with the SHA-256 of both weights' files.

    Steps count from 1 over all epochs: the copy was killed after step `killed_after` of `steps`, and went on from the
    checkpoint that was taken after step `resumed_from`.
    """

    step: str
    seed: int
    steps: int
    killed_after: int
    resumed_from: int
    undisturbed: str
    resumed: str

    @property
    def is_same(self) -> bool:
        """Whether the weights are the same to the byte."""
        return self.undisturbed == self.resumed

    @property
    def exit_code(self) -> int:
        """21 where the weights differ, else 0."""
        return 0 if self.is_same else DIFFERENT


def verify_resume(store: Store, plan: Plan, arguments: Sequence[str], seed: int, tell: Tell) -> tuple[ResumeCheck, ...]:
    """A check of every train step of a plan whose other steps are made already, in their order.

    `arguments` are the command line of a training without its store; `seed` decides after which steps the copies are
    killed. Each training is a process of its own, in a private store within `store`, which is removed afterwards.
    Raises the failure of a training that fails.
    """
    dice = random.Random(seed)
    with _private(store, tell) as folder:
        tell(Note("a training that nothing disturbs"))
        undisturbed = _Copy(folder / "undisturbed", tuple(arguments))
        undisturbed.take(step for step in plan.steps if step.artifact and not step.step.stage.is_shared_work)
        undisturbed.train()
        trained = [step for step in plan.steps if step.step.stage.is_shared_work]
        return tuple(_checked(step, plan, undisturbed, seed, dice, tell) for step in trained)


def _checked(
    step: PlannedStep, plan: Plan, undisturbed: "_Copy", seed: int, dice: random.Random, tell: Tell
) -> ResumeCheck:
    steps, each_epoch = undisturbed.steps_of(step)
    killed_after = dice.randint(1, steps)
    copy = _Copy(undisturbed.store.with_name(step.step.name), undisturbed.arguments)
    copy.take((other for other in plan.steps if other is not step), undisturbed)
    tell(Note(f"{step.step.name}: a copy that is killed after step {killed_after:,} of {steps:,}"))
    if copy.train(TRAIN_AND_DIE.format(dice.randint(1, killed_after), killed_after)) != -signal.SIGKILL:
        raise StepFailed(f"{step.step.name}: the copy was to be killed, and was not")
    resumed_from = copy.checkpoint_of(step, each_epoch)
    tell(Note(f"{step.step.name}: the copy goes on from its checkpoint after step {resumed_from:,}"))
    copy.train()
    first, second = (file_digest(each.artifact(step) / WEIGHTS) for each in (undisturbed, copy))
    return ResumeCheck(step.step.name, seed, steps, killed_after, resumed_from, first, second)


@dataclass(frozen=True)
class _Copy:
    """Trainings in a private store, with the `arguments` of a command line."""

    store: Path
    arguments: tuple[str, ...]

    def artifact(self, step: PlannedStep) -> Path:
        """The folder of the step's artifact."""
        return self.store / "artifacts" / step.fingerprint

    def take(self, steps: Iterator[PlannedStep], other: "_Copy | None" = None) -> None:
        """Use what the steps came to in the recipe's own store, or in that of another copy."""
        Store(self.store).prepare()
        for step in steps:
            folder = step.artifact.folder if step.artifact and not step.step.stage.is_shared_work else None
            source = folder or (other.artifact(step) if other else None)
            if source:
                self.artifact(step).symlink_to(source.resolve())

    def train(self, code: str = TRAIN) -> int:
        """Run the command line to its end: 0, or minus the signal that killed the process. Raises its failure."""
        command = [sys.executable, "-P", "-c", code, *self.arguments, "--store", str(self.store), "--json"]
        environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_COPIES}
        process: subprocess.Popen[str] | None = None
        try:
            with DeferredSignals():  # one that came while the process starts would leave it without a parent
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
                )
            out, _ = process.communicate()
        finally:
            if process:
                with process:
                    process.kill()
        if process.returncode > 0:
            raise _failure(out, process.returncode)
        return process.returncode

    def steps_of(self, step: PlannedStep) -> tuple[int, int]:
        """How many steps of the optimizer the train step took, and how many in each epoch."""
        last = json.loads((self.artifact(step) / HISTORY).read_text().splitlines()[-1])
        return int(last["step"]), int(last["step"]) // int(last["epoch"])

    def checkpoint_of(self, step: PlannedStep, each_epoch: int) -> int:
        """The step after which the checkpoint was taken that lies there; 0 where there is none."""
        path = self.store / "work" / step.fingerprint / "resume" / CHECKPOINT
        if path.exists():
            header: dict[str, Any] = json.loads(_safetensors_header(path)["__metadata__"]["mlctl"])
            return int(header["epoch"]) * each_epoch + int(header["step"])
        return 0


def _safetensors_header(path: Path) -> Any:
    """The JSON before the tensors: its length in 8 bytes, little-endian, then the text."""
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _failure(verdict: str, code: int) -> StepFailed:
    """The first failure of a training's verdict."""
    try:
        failure = json.loads(verdict)["failures"][0]
        error = StepFailed(failure["what"], where=failure["where"], next=failure["next"])
    except (ValueError, LookupError):
        error = StepFailed(f"a training ended with exit code {code}", next="train it with `mlctl train` to see why")
    error.exit_code = code
    return error


@contextmanager
def _private(store: Store, tell: Tell) -> Iterator[Path]:
    """A folder within the store for this process alone, empty; it is gone afterwards."""
    with store.locked(FOLDER, lambda: tell(Waiting(FOLDER))):
        folder = store.root / FOLDER
        remove(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            remove(folder)
