"""Processes that meet, agree, tell of failures and lose each other; each is a thread with a connection of its own."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from time import sleep
from types import SimpleNamespace

import pytest

from mlctl.errors import MachineError, PeerLost
from mlctl.training.meeting import Meeting
from mlctl.training.places import Place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def places() -> list[Place]:
    port = free_port()
    return [Place(rank, 3, rank, 3, "127.0.0.1", port) for rank in range(3)]


def in_all(places: list[Place], task: Callable[[int, Meeting], str]) -> list[str | BaseException | None]:
    """What each comes to, or raises, by rank."""

    def met(place: Place) -> str:
        meeting = Meeting(place, patience=20)
        try:
            return task(place.rank, meeting)
        finally:
            meeting.leave()

    with ThreadPoolExecutor(len(places)) as pool:
        futures: list[Future[str]] = [pool.submit(met, place) for place in places]
        return [future.exception() or future.result() for future in futures]


def test_all_hear_the_leaders_words_in_order(places: list[Place]) -> None:
    def task(rank: int, meeting: Meeting) -> str:
        return " ".join(meeting.agreed(f"{word} of {rank}") for word in ("first", "second"))

    assert in_all(places, task) == ["first of 0 second of 0"] * 3


def test_the_leader_waits_until_all_have_heard_it(places: list[Place]) -> None:
    is_awaited = threading.Event()

    def task(rank: int, meeting: Meeting) -> str:
        if rank == 2:
            is_awaited.wait(20)
        return meeting.agreed("go")

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(in_all, places, task)
        with pytest.raises(TimeoutError):
            found.result(timeout=0.5)
        is_awaited.set()
        assert found.result(20) == ["go"] * 3


@pytest.mark.parametrize("failing", [0, 1])
def test_who_waits_for_another_learns_that_it_has_failed(places: list[Place], failing: int) -> None:
    def task(rank: int, meeting: Meeting) -> str:
        if rank == failing:
            assert meeting.failure() is None
            return meeting.tell("no room")
        with pytest.raises(PeerLost, match="has failed"):
            meeting.agreed("go")
        return str(meeting.failure())

    pair = [replace(place, count=2) for place in places[:2]]
    assert in_all(pair, task) == ["no room"] * 2


def test_the_failure_that_was_told_first_counts(places: list[Place]) -> None:
    told = threading.Event()

    def task(rank: int, meeting: Meeting) -> str:
        if rank:
            told.wait(20)
            return meeting.tell(f"failure of {rank}")
        first = meeting.tell("failure of the leader")
        told.set()
        return first

    assert in_all(places, task) == ["failure of the leader"] * 3


def test_what_an_earlier_attempt_left_at_the_launchers_is_no_answer(places: list[Place]) -> None:
    """The launcher keeps its table over all attempts; here, another meeting's leader plays the launcher."""
    keeper = Meeting(replace(places[0], count=1))
    all_have_heard = threading.Barrier(3, timeout=20)
    launched = [replace(place, meets_at_launcher=True) for place in places]
    for attempt in range(3):

        def task(rank: int, meeting: Meeting, said: str = f"attempt {attempt}") -> str:
            assert meeting.failure() is None
            heard = meeting.agreed(said)
            all_have_heard.wait()  # or a failure would be found by whoever has not
            return meeting.tell(heard)

        assert in_all(launched, task) == [f"attempt {attempt}"] * 3
    keeper.leave()


def test_a_process_that_does_not_come_is_missed(places: list[Place]) -> None:
    with pytest.raises(PeerLost, match="have come within 0 s") as caught:
        Meeting(places[0], patience=0.2)
    assert "WORLD_SIZE" in caught.value.next


def test_a_place_where_nobody_listens(places: list[Place]) -> None:
    with pytest.raises(PeerLost, match="nobody answers") as caught:
        Meeting(places[1], patience=0.2)
    assert (caught.value.where, caught.value.exit_code) == (f"127.0.0.1:{places[1].port}", 5)
    assert "MASTER_ADDR" in caught.value.next


def test_a_port_that_is_taken(places: list[Place]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = replace(places[0], port=other.getsockname()[1])
        with pytest.raises(MachineError, match="cannot meet there") as caught:
            Meeting(taken, patience=0.2)
    assert "MASTER_PORT" in caught.value.next


def test_a_leader_that_has_gone_is_lost(places: list[Place]) -> None:
    """The table goes with its keeper: whoever asks it then has lost the others."""
    pair = [replace(place, count=2) for place in places[:2]]
    with ThreadPoolExecutor(2) as pool:
        leader, follower = pool.map(Meeting, pair)
    del leader.store, leader  # its sockets are closed with it
    with pytest.raises(PeerLost):
        list(iter(follower.failure, "never told"))


def test_a_machine_that_stood_still_costs_the_leader_one_look(
    places: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock goes on meanwhile, by more than its whole patience, and the others have not said goodbye."""
    pair = [replace(place, count=2) for place in places[:2]]
    with ThreadPoolExecutor(2) as pool:
        leader, follower = pool.map(Meeting, pair)
    leader.tell("no room")
    clock = count(step=1000.0)
    monkeypatch.setattr("mlctl.training.meeting.time", SimpleNamespace(monotonic=lambda: next(clock), sleep=sleep))
    leader.leave()
    assert leader.store.check(["goodbye/1"])
    follower.leave()


def test_why_the_leader_failed_is_known_when_it_has_gone(places: list[Place]) -> None:
    """As for a process that only notices in the middle of a sum: it asks when nobody is left to answer."""
    pair = [replace(place, count=2) for place in places[:2]]
    with ThreadPoolExecutor(2) as pool:
        leader, follower = pool.map(Meeting, pair)
    leader.tell("no room")
    leader.leave()  # comes back at once, because the other one listens
    assert leader.store.check(["goodbye/1"])
    del leader.store, leader
    assert follower.failure() == "no room"
