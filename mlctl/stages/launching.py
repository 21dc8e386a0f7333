"""One command in many processes: what the options ask for, and what the processes' end means."""

import os
import re
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlctl.errors import Interrupted, MachineError, Refusal, StepFailed, UsageError
from mlctl.events import Tell, Warned
from mlctl.training.places import LARGEST_PORT, START_AGAIN, is_launched, is_verdict, stopped_by
from mlctl.training.places import Launch as Launch
from mlctl.units import plural

if TYPE_CHECKING:
    from mlctl.training.elastic import Ended

FLAGS: Final = ("--nproc-per-node", "--nnodes", "--rdzv-endpoint")
"""Options that are for the launcher alone; each takes a value."""
FAILURE: Final = re.compile(r"^mlctl: (?P<what>.*)\n  next: (?P<next>.*)$", re.MULTILINE)


def wanted_launch(processes: int | None, machines: int | None, endpoint: str | None) -> Launch | None:
    """What the options ask for; None where that is this process alone.

    Raises UsageError where they contradict each other, or this process was launched itself.
    """
    if processes is None and machines is None and endpoint is None:
        return None
    if is_launched(os.environ):
        raise UsageError(
            "this process is one of several already, as WORLD_SIZE says", next=f"leave out {', '.join(FLAGS)}"
        )
    launch = Launch(processes or 1, machines or 1, endpoint)
    if launch.machines > 1 and endpoint is None:
        raise UsageError(
            "several machines need a place to meet",
            next="give `--rdzv-endpoint HOST:PORT`, a free port of one of them, the same on all",
        )
    if launch.machines == 1 and endpoint is not None:
        raise UsageError("one machine needs no place to meet", next="leave out `--rdzv-endpoint`, or add `--nnodes M`")
    if endpoint is not None and not _is_endpoint(endpoint):
        raise UsageError(f"{endpoint!r} is not HOST:PORT", next="write it such as `--rdzv-endpoint node1:29400`")
    return launch if launch.processes * launch.machines > 1 else None


def launch(wanted: Launch, arguments: Sequence[str], tell: Tell) -> int:
    """The exit code of the `mlctl` with these arguments that is run in all processes at once.

    What the leader writes is written here. A process that is killed is started again with all others, which then go on
    from their last checkpoint; one that fails stops the others, and its failure is that of all.

    Raises Interrupted after a signal, which all processes are given; MachineError where one is killed again and again,
    PeerLost where machines do not meet; and a failure that the leader could not show, or of which it runs elsewhere.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from mlctl.training.elastic import STARTS_AGAIN, run_elastic

    def restarted(ended: "Ended") -> None:
        time = f"time {ended.starts} of {STARTS_AGAIN}"
        tell(Warned(f"{_how_it_ended(ended)}; all start again from the last checkpoint, {time}"))

    ended = run_elastic(wanted, ("-P", "-m", "mlctl", *without_launch(arguments)), restarted)
    if not ended.codes:
        return 0
    if is_verdict(ended.codes.get(0, START_AGAIN)):
        return ended.codes[0]
    raise failure_of(ended)


def without_launch(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line without the options that are for the launcher."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in FLAGS:
            next(rest, None)
        elif argument.partition("=")[0] not in FLAGS:
            kept.append(argument)
    return tuple(kept)


def failure_of(ended: "Ended") -> Refusal:
    """Why processes ended of which the leader has said nothing."""
    for rank, code in ended.codes.items():
        if is_verdict(code):
            return _said(ended.said.get(rank, ""), rank, code)
    signals = [stopped_by(code) for code in ended.codes.values()]
    if signals[0] and all(signals):
        return Interrupted(signals[0])
    again = f", after {plural(ended.starts - 1, 'new start')}" if ended.starts > 1 else ""
    return MachineError(
        f"{_how_it_ended(ended)}{again}",
        next="find out what kills it, such as too little memory; the same command goes on from the last checkpoint",
    )


def _how_it_ended(ended: "Ended") -> str:
    killed = [(rank, -code) for rank, code in ended.codes.items() if code < 0 and not stopped_by(code)]
    if not killed:
        return "a process on another machine has gone"
    return ", ".join(f"the process of rank {rank} was killed by {signal.Signals(code).name}" for rank, code in killed)


def _said(text: str, rank: int, code: int) -> Refusal:
    """The failure that a process other than the leader has written."""
    found = list(FAILURE.finditer(text))
    last = text.strip().rpartition("\n")[2]
    what = found[-1]["what"] if found else f"the process of rank {rank} failed: {last or 'it said nothing'}"
    if "the process of rank" not in what:
        what = f"in the process of rank {rank}: {what}"
    refusal = StepFailed(what, next=found[-1]["next"] if found else "report it with what `--debug` prints")
    refusal.exit_code = code
    return refusal


def _is_endpoint(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    return bool(host) and bool(re.fullmatch(r"\d{1,5}", port)) and 1 <= int(port) <= LARGEST_PORT
