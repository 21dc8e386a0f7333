"""Where the processes of a training meet, and what they tell each other beside their tensors."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from mlctl.errors import MachineError, PeerLost
from mlctl.training.places import Place

ARRIVAL_SECONDS: Final = 300.0
"""How long the processes of a training wait for each other to start."""
WORD_SECONDS: Final = 2 * 3600.0
"""How long one waits for the others at a shared step: they may have data to prepare, each on its own machine."""
GOODBYE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05
GOODBYE_LOOKS: Final = 200
"""How often the keeper looks for the others' goodbyes: not a time, since where a machine stands still, all do."""
LISTEN_SECONDS: Final = 0.5
ANSWER: Final = timedelta(minutes=10)
"""How long the place where they meet may take to answer one question."""
# What torch 2.13 says, in a plain RuntimeError, of a connection that is no more.
LOST: Final = ("closed by peer", "reset by peer", "Broken pipe", "gloo", "Timed out waiting", "NCCL", "Socket Timeout")


class Meeting:
    """A table of texts that all processes see, where their launcher, or else their leader, keeps it.

    Raises PeerLost where the place cannot be reached or not all processes come in time, and MachineError where the
    leader cannot listen there.
    """

    def __init__(self, place: Place, patience: float = ARRIVAL_SECONDS) -> None:
        self._place = place
        self._agreements = 0
        is_keeper = place.is_leader and not place.meets_at_launcher
        if not is_keeper:
            _reach(place.address, place.port, patience)
        with lost_peers():
            table = _table(place, is_keeper)
            self._is_keeper = is_keeper
            self.store: Store = PrefixStore(self._gathered(table, patience), table)
        self._heard: str | None = None
        self._is_over = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="meeting", daemon=True)
        if not place.is_leader:
            self._listener.start()

    def agreed(self, word: str) -> str:
        """The leader's word, in every process; the leader comes back when all have heard it, and so are here.

        Raises PeerLost where one has gone, or has told of a failure.
        """
        self._agreements += 1
        name = f"word/{self._agreements}"
        with lost_peers():
            if not self._place.is_leader:
                heard = self._awaited(name, WORD_SECONDS)
                self.store.set(f"{name}/{self._place.rank}", "heard")
                return heard
            self.store.set(name, word)
            for rank in range(1, self._place.count):
                self._awaited(f"{name}/{rank}", WORD_SECONDS)
        return word

    def tell(self, failure: str) -> str:
        """Tell all that this process has failed; what was told first by any. Raises PeerLost."""
        with lost_peers():
            return str(self.store.compare_set("failure", "", failure).decode())

    def failure(self) -> str | None:
        """The failure that was told first, if any was. Raises PeerLost."""
        if self._heard is not None:
            return self._heard
        with lost_peers():
            return str(self.store.get("failure").decode()) if self.store.check(["failure"]) else None

    def leave(self) -> None:
        """Say goodbye; who keeps the table waits a while for the others to say it. Raises PeerLost."""
        self._is_over.set()
        if self._listener.is_alive():
            self._listener.join(GOODBYE_SECONDS)
        with lost_peers():
            self.store.set(f"goodbye/{self._place.rank}", "")
            others = [f"goodbye/{rank}" for rank in range(self._place.count)]
            for _ in range(GOODBYE_LOOKS if self._is_keeper else 0):
                if self.store.check(others):
                    break
                time.sleep(LOOK_SECONDS)

    def _listen(self) -> None:
        """Hear of the leader's failure while it can be heard of, and say goodbye, so that the leader may go.

        The table may go with it; and in the middle of a sum, only that it has gone is noticed.
        """
        with suppress(PeerLost), lost_peers():
            while not self._is_over.wait(LISTEN_SECONDS):
                if self.store.check(["failure"]):
                    self._heard = str(self.store.get("failure").decode())
                    self.store.set(f"goodbye/{self._place.rank}", "")
                    return

    def _awaited(self, name: str, patience: float) -> str:
        """The text of that name once it is there. Signals are obeyed meanwhile."""
        until = time.monotonic() + patience
        while not self.store.check([name]):
            if self.store.check(["failure"]):
                raise PeerLost("another process of this training has failed")
            if time.monotonic() > until:
                raise PeerLost(f"another process of this training did not come within {patience:.0f} s")
            time.sleep(LOOK_SECONDS)
        return str(self.store.get(name).decode())

    def _gathered(self, table: Store, patience: float) -> str:
        """A name that the processes of this attempt share, and no attempt before, once all are here.

        What an earlier attempt left in the launcher's table must not be taken for an answer: the leader forgets every
        hello that it finds, and the others say theirs again until they are welcomed by it.
        """
        until = time.monotonic() + patience
        if self._place.is_leader:
            name = uuid4().hex
            greetings = [f"hello/{rank}" for rank in range(1, self._place.count)]
            for greeting in greetings:
                table.delete_key(greeting)
            while not table.check(greetings):
                _require_time(until, patience)
            for greeting in greetings:
                table.set(f"welcome/{table.get(greeting).decode()}", name)
            return name
        mine = uuid4().hex
        while not table.check([f"welcome/{mine}"]):
            table.set(f"hello/{self._place.rank}", mine)
            _require_time(until, patience)
        return str(table.get(f"welcome/{mine}").decode())


@contextmanager
def lost_peers() -> Iterator[None]:
    """Within it, whatever torch says of a connection that is no more is a PeerLost."""
    try:
        yield
    except dist.DistError as error:
        raise PeerLost("another process of this training has gone") from error
    except RuntimeError as error:
        if any(words in str(error) for words in LOST):
            raise PeerLost("another process of this training has gone") from error
        raise


def _require_time(until: float, patience: float) -> None:
    if time.monotonic() > until:
        raise PeerLost(
            f"not all processes of this training have come within {patience:.0f} s",
            next="start as many as WORLD_SIZE says, each with its own RANK",
        )
    time.sleep(LOOK_SECONDS)


def _reach(address: str, port: int, patience: float) -> None:
    """Wait until somebody listens at `address`:`port`: torch itself would wait where no signal is heard."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((address, port), timeout=2.0).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise PeerLost(
                    f"nobody answers ({error.strerror or error})",
                    where=f"{address}:{port}",
                    next="check MASTER_ADDR and MASTER_PORT, and that the process of rank 0 was started there",
                ) from error
        time.sleep(LOOK_SECONDS)


def _table(place: Place, is_keeper: bool) -> Store:
    from torch._C._distributed_c10d import TCPStore

    try:
        return TCPStore(
            place.address, place.port, is_master=is_keeper, timeout=ANSWER, wait_for_workers=False, multi_tenant=True
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        if not is_keeper:
            raise
        reason = str(error).partition("\n")[0]
        raise MachineError(
            f"the processes cannot meet there ({reason})",
            where=f"{place.address}:{place.port}",
            next="set MASTER_PORT to a free port, the same for every process",
        ) from error
