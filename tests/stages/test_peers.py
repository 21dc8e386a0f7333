"""Who shows a verdict, and how a failure of one process becomes that of all."""

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlctl.digests import Json
from mlctl.engine.company import ALONE
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.fingerprint import Identity
from mlctl.engine.plan import Action, Life, Plan, PlannedStep
from mlctl.engine.stage import Stage, Step, Work
from mlctl.engine.verdict import Failure, FollowersVerdict, Verdict
from mlctl.errors import (
    DataError,
    Diverged,
    Interrupted,
    OutOfMemory,
    PeerLost,
    Problem,
    RecipeError,
    Refusal,
    UsageError,
)
from mlctl.stages.peers import Peers, Told, company_for, cores_here, threads_here, voiced
from mlctl.training.places import Place

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
OURS = {"ROLE_NAME": "mlctl"}
SLURM = {
    "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "3",
    "SLURM_JOB_NODELIST": "a",
}  # fmt: skip


class Sharing(Stage[None]):
    """Work for all processes; nobody does it here."""

    name, revision = "sharing", 1
    is_shared_work = True

    def settings(self) -> Mapping[str, Json]:
        """None."""
        return {}

    def promises(self) -> tuple[Promise, ...]:
        """None."""
        return ()

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Nothing."""
        return ()

    def open(self, folder: Path) -> None:
        """Nothing."""


class Solitary(Sharing):
    """Work for one process."""

    is_shared_work = False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plan_of(stage: Stage[None]) -> Plan:
    step = Step("work", stage)
    planned = PlannedStep(step, Identity("sharing", 1, {}, {}, ()), "f" * 64, Action.RUN, (), None)
    return Plan(Life("life", Path("life.yaml"), (step,)), (planned,))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *OURS, *SLURM):
        monkeypatch.delenv(name, raising=False)


def spoken(environment: dict[str, str], failure: Refusal | None, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    failures = (Failure.of(failure),) if failure else ()
    return voiced(Verdict("0", "train", None, failures=failures), plan_of(Sharing()), ALONE)


@pytest.mark.parametrize(
    ("environment", "failure", "is_silent"),
    [
        ({}, None, False),
        (TORCHRUN, None, False),
        (TORCHRUN, PeerLost("gone"), False),
        (TORCHRUN, Interrupted(2), False),
        ({**TORCHRUN, "RANK": "1"}, None, True),
        (TORCHRUN | OURS, None, False),
        (TORCHRUN | OURS, Diverged("nan"), False),
        (TORCHRUN | OURS, PeerLost("gone"), True),
        (TORCHRUN | OURS, Interrupted(2), True),
    ],
)
def test_the_leader_shows_the_verdict_unless_its_launcher_does(
    environment: dict[str, str], failure: Refusal | None, is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = spoken(environment, failure, monkeypatch)
    assert isinstance(verdict, FollowersVerdict) is is_silent


def test_a_process_that_lost_another_asks_the_launcher_to_start_all_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spoken(TORCHRUN | OURS, PeerLost("gone"), monkeypatch).exit_code == 75
    assert spoken({"ROLE_NAME": "default"}, PeerLost("gone"), monkeypatch).exit_code == 5


@pytest.mark.parametrize("environment", [TORCHRUN | OURS, TORCHRUN])
def test_a_process_that_follows_says_what_nobody_else_knows(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = spoken({**environment, "RANK": "1"}, DataError("bad row"), monkeypatch)
    assert isinstance(verdict, FollowersVerdict)
    assert (verdict.is_told, verdict.exit_code) == (False, 3)


def test_a_plan_without_shared_work_is_nobodys_company(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    verdict = Verdict("0", "prepare", None)
    assert voiced(verdict, plan_of(Solitary()), ALONE) is verdict
    with company_for(plan_of(Solitary()).shares_work) as company:
        assert company is ALONE


def test_processes_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores_here(7) == 7
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert (cores_here(7), cores_here(2)) == (3, 2)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert (cores_here(7), cores_here(1)) == (3, 1)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("3", 3), (" 03 ", 3), ("7", 7), ("100", 7), ("2,4", 2), ("", 7), (" ", 7), (None, 7)],
)
def test_the_environment_says_how_many_threads_there_are_at_most(
    asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_here(7) == expected


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", "9" * 400, "2;4", "\u0663"])
def test_nonsense_for_a_number_of_threads_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    with pytest.raises(UsageError, match="where a number from 1 belongs") as refusal:
        threads_here(7)
    assert "--threads" in refusal.value.next


def test_what_torchrun_sets_by_itself_is_nobodys_wish_but_what_mlctl_hands_on_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**TORCHRUN, "TORCHELASTIC_RUN_ID": "none", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert threads_here(8) == 4
    monkeypatch.setenv("ROLE_NAME", "mlctl")
    assert threads_here(8) == 1


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OutOfMemory("no room", where="cuda:1", next="less"), OutOfMemory),
        (Interrupted(15), Interrupted),
        (RecipeError((Problem(1, 1, "a", "b", "c"),)), UsageError),
    ],
)
def test_a_failure_of_another_process_is_the_same_failure_with_its_rank(
    failure: Refusal, expected: type[Refusal]
) -> None:
    told = Told(3, type(failure).__name__, failure.what, failure.where, failure.next, failure.exit_code)
    found = told.refusal
    assert type(found) is expected
    assert (found.where, found.next, found.exit_code) == (failure.where, failure.next, failure.exit_code)
    assert isinstance(found, Interrupted) or found.what == f"in the process of rank 3: {failure.what}"


def test_a_failure_is_named_alike_by_the_leader_and_by_the_process_that_failed() -> None:
    """The launcher shows what the process says of itself where the leader was stopped before it could speak."""
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        leader, follower = pool.map(Peers, [Place(rank, 2, rank, 2, "127.0.0.1", port) for rank in range(2)])
    own = follower.blamed(Diverged("the loss is nan", where="train", next="rest"))
    heard = leader.blamed(PeerLost("gone"))
    for found in (own, heard):
        assert isinstance(found, Diverged)
        assert (found.what, found.where, found.next, found.exit_code) == (
            "in the process of rank 1: the loss is nan", "train", "rest", 4,
        )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Peers.leave, (leader, follower)))


def test_a_leaders_own_failure_needs_no_rank() -> None:
    leader = Peers(Place(0, 1, 0, 1, "127.0.0.1", free_port()))
    failure = Diverged("the loss is nan")
    assert leader.blamed(failure) is failure
    leader.leave()
