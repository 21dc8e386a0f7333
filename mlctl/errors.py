"""Every way in which mlctl refuses, and the exit code of each. All of them are Refusals.

MlctlError (an Exception)
├── UsageError             2   the command line asks for something that cannot be
│   └── RecipeError        2   the recipe has problems, all of them listed
├── DataError              3   what was read from outside is not what the recipe says
│   └── ArtifactDamaged    3   a file in the store is not the file that was written
├── StepFailed             4   a step ran and could not succeed
│   ├── Diverged           4   the loss stopped being a number
│   ├── Unsupported        4   the network cannot be expressed in ONNX
│   └── OutOfMemory        4   the device has no room for the step
├── MachineError           5   this machine lacks what the step needs
│   ├── MissingExtra       5   an optional package is not installed
│   ├── NoSuchDevice       5   the device that was asked for is not here
│   ├── PeerLost           5   another process of a training has gone
│   └── DiskFull           5   the store's disk is full
Interrupted (a KeyboardInterrupt)  130/143   Ctrl-C, or SIGTERM
"""

import signal
from dataclasses import dataclass
from typing import ClassVar


class Refusal(BaseException):
    """Why a command could not do what was asked: what is wrong, where, and what to do next."""

    exit_code: int
    default_next: ClassVar[str]

    def __init__(self, what: str, *, where: object | None = None, next: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.next = next or self.default_next

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}\n  next: {self.next}"


class MlctlError(Refusal, Exception):
    """A refusal that a user can act on."""


class UsageError(MlctlError):
    """The command line asks for something that cannot be."""

    exit_code = 2
    default_next = "`mlctl --help` lists the commands, `mlctl COMMAND --help` its options"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a recipe, at its place.

    `line` and `column` count from 1 and are 0 where there is no file position (an override).
    """

    line: int
    column: int
    file: str
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        return f"{place}: {subject}{self.message}"


class RecipeError(UsageError):
    """The recipe has problems; all of them, in the order of the file."""

    default_next = "mend the lines above; `mlctl schema` describes every key"

    def __init__(self, problems: tuple[Problem, ...], *, next: str | None = None) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems), next=next)


class DataError(MlctlError):
    """What was read from outside is not what the recipe says it is."""

    exit_code = 3
    default_next = "mend the data, or set `on_bad: skip` to set bad rows aside and count them"


class ArtifactDamaged(DataError):
    """A file in the store is not the file that was written there."""

    default_next = "`mlctl run --force STEP` makes the artifact again"


class StepFailed(MlctlError):
    """A step ran and could not succeed."""

    exit_code = 4
    default_next = "change the step's settings; what was finished before it is kept"


class Diverged(StepFailed):
    """The loss stopped being a number."""

    default_next = "lower the learning rate, or lengthen the warm-up"


class Unsupported(StepFailed):
    """The network cannot be expressed in ONNX."""

    default_next = "replace the operator that is named, or choose a network of `mlctl schema`"


class OutOfMemory(StepFailed):
    """The device has no room for the step."""

    default_next = "lower `batch_size`, or choose another `--device`"


class MachineError(MlctlError):
    """This machine lacks what the step needs."""

    exit_code = 5
    default_next = "`mlctl doctor` says what this machine has"


class MissingExtra(MachineError):
    """An optional package is not installed."""

    default_next = "install the extra that is named"


class NoSuchDevice(MachineError):
    """The device that was asked for is not here."""


class PeerLost(MachineError):
    """Another process of a training in several has gone, or cannot be reached."""

    default_next = "run the same command again; it goes on from the last checkpoint"


class DiskFull(MachineError):
    """The store's disk is full; nothing half-made was kept."""

    default_next = "free some space (`mlctl gc` says what could go) and run the same command again"


class Interrupted(Refusal, KeyboardInterrupt):
    """The user or the system asked the process to stop.

    Like Python's own, it is no Exception: a library that catches those must not take it for a failure of its own.
    """

    default_next = "run the same command again"
    next_where_kept: ClassVar[str] = "run the same command again; it goes on where it stopped"
    """For whoever knows that there is something to go on from."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number
