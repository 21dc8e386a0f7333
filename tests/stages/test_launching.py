"""What the options ask for, what is handed on, and what the ends of many processes mean."""

import shlex

import pytest

from mlctl.errors import Interrupted, MachineError, Refusal, UsageError
from mlctl.stages.launching import failure_of, wanted_launch, without_launch
from mlctl.training.elastic import Ended, is_worth_another_start
from mlctl.training.places import Launch


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((None, None, None), None),
        ((1, None, None), None),
        ((1, 1, None), None),
        ((4, None, None), Launch(4, 1, None)),
        ((None, 2, "node1:29400"), Launch(1, 2, "node1:29400")),
        ((8, 2, "[::1]:29400"), Launch(8, 2, "[::1]:29400")),
    ],
)
def test_what_the_options_ask_for(options: tuple[int | None, int | None, str | None], wanted: Launch | None) -> None:
    assert wanted_launch(*options) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((2, 2, None), "several machines need a place to meet"),
        ((2, None, "node1:29400"), "one machine needs no place to meet"),
        ((2, 2, "node1"), "'node1' is not HOST:PORT"),
        ((2, 2, "node1:0"), "'node1:0' is not HOST:PORT"),
        ((2, 2, ":29400"), "':29400' is not HOST:PORT"),
        ((2, 2, "node1:65536"), "'node1:65536' is not HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused(options: tuple[int, int | None, str | None], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        wanted_launch(*options)
    assert message in caught.value.what


def test_a_process_that_was_launched_launches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one of several already"):
        wanted_launch(2, None, None)


def test_the_processes_are_given_the_same_line_without_what_is_the_launchers() -> None:
    line = shlex.split("train a.yaml --nproc-per-node 2 x=1 --nnodes=3 --json --rdzv-endpoint host:1 --set nnodes=2")
    assert without_launch(line) == ("train", "a.yaml", "x=1", "--json", "--set", "nnodes=2")


@pytest.mark.parametrize(
    ("codes", "is_worth_it"),
    [
        ({1: -9}, True),
        ({0: 75, 1: -9}, True),
        ({0: 143, 1: -11}, True),
        ({0: 75}, True),
        ({1: 4}, False),
        ({0: 75, 1: 4}, False),
        ({0: -9, 1: 20}, False),
        ({0: 130, 1: 130}, False),
        ({0: -15, 1: 143}, False),
    ],
)
def test_only_where_one_was_killed_and_none_failed_is_it_worth_another_start(
    codes: dict[int, int], is_worth_it: bool
) -> None:
    assert is_worth_another_start(codes) is is_worth_it


def ended(codes: dict[int, int], said: dict[int, str] | None = None, starts: int = 1) -> Refusal:
    return failure_of(Ended(codes, said or {}, starts))


def test_a_process_that_is_killed_again_and_again_is_named_with_what_killed_it() -> None:
    refusal = ended({0: 75, 1: -9}, starts=4)
    assert isinstance(refusal, MachineError)
    assert refusal.what == "the process of rank 1 was killed by SIGKILL, after 3 new starts"


def test_a_failure_that_the_leader_could_not_show_is_shown_as_it_was_said() -> None:
    said = "Gloo is here\nmlctl: train: no room: at all\n  next: lower `batch_size`\n"
    refusal = ended({0: -9, 1: 4}, {1: said})
    assert refusal.what == "in the process of rank 1: train: no room: at all"
    assert (refusal.next, refusal.exit_code) == ("lower `batch_size`", 4)


def test_a_process_that_says_its_rank_is_not_given_it_twice() -> None:
    what = "train: in the process of rank 1: no room"
    assert ended({0: 143, 1: 4}, {1: f"mlctl: {what}\n  next: rest\n"}).what == what


@pytest.mark.parametrize(("said", "what"), [("Traceback:\nKeyError: 7\n", "KeyError: 7"), ("", "it said nothing")])
def test_a_process_that_said_no_failure_is_quoted(said: str, what: str) -> None:
    refusal = ended({1: 1}, {1: said})
    assert (refusal.what, refusal.exit_code) == (f"the process of rank 1 failed: {what}", 1)


def test_processes_that_were_stopped_were_interrupted() -> None:
    refusal = ended({1: 143, 2: -15})
    assert isinstance(refusal, Interrupted)
    assert refusal.exit_code == 143


def test_processes_that_lost_others_elsewhere_say_so() -> None:
    assert ended({2: 75, 3: 143}, starts=2).what == "a process on another machine has gone, after 1 new start"
