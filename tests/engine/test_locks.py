"""Locks between real processes."""

import signal
import subprocess
import sys
from pathlib import Path

from mlctl.engine.locks import exclusive, exclusive_if_free

HOLDER = """
import sys
from pathlib import Path
from mlctl.engine.locks import exclusive

def waited():
    print("waiting", flush=True)

with exclusive(Path(sys.argv[1]), on_wait=waited):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start_holder(lock: Path) -> subprocess.Popen[str]:
    """A process that takes the lock, says so, and keeps it until it is told a line."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_the_second_process_waits_until_the_first_lets_go(tmp_path: Path) -> None:
    with start_holder(tmp_path / "lock") as first:
        assert said(first) == "held"
        with start_holder(tmp_path / "lock") as second:
            assert said(second) == "waiting"
            first.communicate("\n")
            assert said(second) == "held"
            second.communicate("\n")
            assert (first.returncode, second.returncode) == (0, 0)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    with start_holder(tmp_path / "lock") as holder:
        assert said(holder) == "held"
        with exclusive_if_free(tmp_path / "lock") as is_held:
            assert not is_held
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with exclusive_if_free(tmp_path / "lock") as is_held:
            assert is_held


def test_a_free_lock_is_taken_without_waiting(tmp_path: Path) -> None:
    waits: list[str] = []
    for _ in range(2):
        with exclusive(tmp_path / "lock", on_wait=lambda: waits.append("waited")):
            pass
    assert waits == []


def test_locks_of_different_artifacts_do_not_meet(tmp_path: Path) -> None:
    with exclusive_if_free(tmp_path / "one") as one, exclusive_if_free(tmp_path / "two") as two:
        assert one
        assert two
