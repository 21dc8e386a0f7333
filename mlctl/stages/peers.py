"""The processes that work on a plan together, as torchrun, Slurm or `mlctl train --nproc-per-node` started them."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Final

from mlctl import errors
from mlctl.engine.company import ALONE, Company
from mlctl.engine.plan import Plan
from mlctl.engine.stage import Work
from mlctl.engine.verdict import FollowersVerdict, Verdict
from mlctl.errors import Interrupted, MlctlError, PeerLost, RecipeError, Refusal, StepFailed, UsageError
from mlctl.training.places import LAUNCHER, START_AGAIN, STOPS, Place, place_in

if TYPE_CHECKING:
    import torch

    from mlctl.training.processes import Group

BUG: Final = 1
SIGNALLED: Final = 128
PR_SET_PDEATHSIG: Final = 1
"""Linux: the signal that a process is sent when its parent dies, prctl(2)."""


@contextmanager
def company_for(shares_work: bool) -> Iterator[Company]:
    """The processes that this one was started with; none, where a plan shares no work.

    Raises UsageError where the environment contradicts itself, and PeerLost or MachineError where they do not meet.
    """
    place = place_in(os.environ) if shares_work else None
    if place is None:
        yield ALONE
        return
    peers = Peers(place)
    try:
        yield peers
    except Exception as error:
        peers.blamed(error if isinstance(error, MlctlError) else _bug(error))
        raise
    finally:
        peers.leave()


def cores_here(available: int) -> int:
    """How many of the available cores are for this process: those on one machine share them."""
    place = place_in(os.environ)
    if place is None:
        return available
    return min(available, place.cores) if place.cores else max(1, available // place.local_count)


def threads_here(available: int) -> int:
    """How many threads this process uses where nothing is said: its cores, and no more than OMP_NUM_THREADS.

    Raises UsageError where that variable holds no number.
    """
    cores = cores_here(available)
    # torchrun sets it to 1 where its user has not.
    is_under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("ROLE_NAME") != LAUNCHER
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if is_under_torchrun or not asked.strip():
        return cores
    # OpenMP lists one number for each level of nested loops; the first is that of the outermost.
    if not re.fullmatch(r"\s*0*[1-9][0-9]{0,8}\s*(,.*)?", asked):
        raise UsageError(
            f"the environment variable OMP_NUM_THREADS is {asked!r}, where a number from 1 belongs",
            next="set it to a number of threads, unset it, or give `--threads N`",
        )
    return min(cores, int(asked.partition(",")[0]))


def voiced(verdict: Verdict, plan: Plan, company: Company) -> Verdict:
    """The verdict on a plan, as a FollowersVerdict where another process shows it.

    The leader shows its own, which has the failure that came first in any process. Under mlctl's own launcher the
    launcher says that all were stopped, starts all again where one was lost, and shows what a process that follows
    says of its failure only where the leader could not.
    """
    place = place_in(os.environ) if plan.shares_work else None
    if place is None:
        return verdict
    kinds = {failure.kind for failure in verdict.failures}
    if place.can_restart and PeerLost.__name__ in kinds:
        failures = tuple(replace(failure, exit_code=START_AGAIN) for failure in verdict.failures)
        return _followers(replace(verdict, failures=failures), is_told=True)
    if place.can_restart and Interrupted.__name__ in kinds:
        return _followers(verdict, is_told=True)
    if place.is_leader:
        return verdict
    return _followers(verdict, is_told=not place.can_restart and isinstance(company, Peers) and company.is_told)


def obey_launcher() -> None:
    """Live and die as mlctl's launcher wants it, if it started this process.

    It stops all processes where one has ended: signals for that have an effect only while they are handled, so that
    none is ended in the middle of its last words. Where it is killed itself, so is this process.
    """
    place = place_in(os.environ)
    if place and place.can_restart:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        die_with_parent()


def die_with_parent() -> None:
    """Let this process be killed where the one that started it dies."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def joined(work: Work) -> "tuple[Group, torch.device]":
    """The processes that a shared step is worked on by, and the device of this one."""
    from mlctl.training.processes import Group, device_at

    if isinstance(work.company, Peers):
        return work.company.group(work.device)
    return Group.alone(), device_at(work.device, None)


def _bug(error: Exception) -> StepFailed:
    bug = StepFailed(f"a bug in mlctl: {type(error).__name__}: {error}".splitlines()[0])
    bug.exit_code = BUG
    return bug


def _followers(verdict: Verdict, is_told: bool) -> FollowersVerdict:
    parts = {each.name: getattr(verdict, each.name) for each in fields(Verdict)}
    return FollowersVerdict(**parts, is_told=is_told)


@dataclass(frozen=True)
class Told:
    """A failure, as the process of that `rank` tells it to the others."""

    rank: int
    kind: str
    what: str
    where: str | None
    next: str
    exit_code: int

    @property
    def refusal(self) -> Refusal:
        """The failure as that of another process."""
        if self.kind == Interrupted.__name__:
            return Interrupted(self.exit_code - SIGNALLED)
        kind = getattr(errors, self.kind)
        what = f"in the process of rank {self.rank}: {self.what}"
        refusal: Refusal = (UsageError if issubclass(kind, RecipeError) else kind)(
            what, where=self.where, next=self.next
        )
        refusal.exit_code = self.exit_code
        return refusal


class Peers(Company):
    """Several processes, at least one of them elsewhere."""

    def __init__(self, place: Place) -> None:
        # Followers that come first would otherwise fill the terminal with attempts to connect.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from mlctl.training.meeting import Meeting

        self.rank = place.rank
        self._place = place
        self._meeting = Meeting(place)
        self._group: Group | None = None
        self._has_failed = False
        self.is_told = True
        """Whether another process knows of this one's failure."""

    def agreed(self, word: str) -> str:
        return self._meeting.agreed(word)

    def blamed(self, error: Refusal) -> Refusal:
        self._has_failed = True
        own = Told(self.rank, type(error).__name__, error.what, error.where, error.next, error.exit_code)
        text = json.dumps(asdict(own))
        try:
            first = self._meeting.failure() if isinstance(error, PeerLost) else self._meeting.tell(text)
        except PeerLost:
            first = None
        # Where NCCL waits, the leader may be stopped before it has learnt of anything.
        self.is_told = first is not None and not (self._group and self._group.backend == "nccl")
        if first is None or (first == text and not self.is_follower):
            return error
        # Also where it is this one's own: the launcher shows it in the leader's place where the leader was stopped
        # before it could, and in the same words.
        return Told(**json.loads(first)).refusal

    def group(self, asked: str) -> "tuple[Group, torch.device]":
        """The processes as those that sum tensors, and this one's device, given what `--device` asks for."""
        from mlctl.training.processes import Group, device_at

        device = device_at(asked, self._place)
        if self._group is None:
            self._group = Group.joined(self._place, self._meeting.store, device)
        return self._group, device

    def leave(self) -> None:
        """Close the connections: after a failure, that is how the others come to know of it."""
        with suppress(PeerLost):
            # NCCL would wait for whoever does not answer; its connections end with the process.
            if self._group and not (self._has_failed and self._group.backend == "nccl"):
                self._group.leave()
            self._meeting.leave()
