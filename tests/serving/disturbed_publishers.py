"""A process whose children publish, and are disturbed: run as `python disturbed_publishers.py HOW FOLDER`.

Children are forked, so that each costs milliseconds. It ends with 0, and says how many were disturbed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from published_models import assert_whole, candidates

from mlctl.serving.repository.publishing import Candidate, publish
from mlctl.serving.repository.repository import Repository

WATCHED = ("open", "os.", "shutil.", "fcntl.", "pathlib.")
FULL = 28
"""The exit code of a child that found no room."""


def in_child(work: Callable[[], None]) -> int:
    """Start a child that does the work; its process number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except OSError as error:
        os._exit(error.errno or 1)
    os._exit(0)


def ended(child: int) -> int:
    """How it ended: its exit code, or minus a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_self_at(event: int) -> None:
    """Let this process be killed just before it asks the system for the n-th time from now."""
    left = event

    def count(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name.startswith(WATCHED):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def settled(root: Path, wanted: Candidate, versions: int) -> None:
    """The same publisher, undisturbed, comes to that many versions, and leaves nothing unfinished."""
    publish(Repository(root), wanted, ["production"])
    assert len(assert_whole(root)) == versions
    left = [path.name for path in (root / "m").iterdir() if path.name.startswith(".")]
    assert left == [".lock"], left
    events = Repository(root).history("m")
    told = [each.version for each in events if each.what == "published"]
    assert sorted(filter(None, told)) == list(range(1, versions + 1)), told


def killed_at_every_event(folder: Path, first: Candidate, second: Candidate) -> int:
    template = folder / "template"
    publish_to(template, first)
    for event in range(1, 1000):
        root = folder / str(event)
        shutil.copytree(template, root)

        def work(root: Path = root, event: int = event) -> None:
            kill_self_at(event)
            publish(Repository(root), second, ["production", "canary"])

        code = ended(in_child(work))
        assert code in (0, -signal.SIGKILL), code
        assert 1 <= len(assert_whole(root)) <= 2
        settled(root, second, 2)
        if code == 0:
            return event - 1
    raise AssertionError("it never came to an end")


def killed_at_random_instants(folder: Path, first: Candidate, second: Candidate) -> int:
    dice, kills = random.Random(7), 0
    root = folder / "timed"
    started = time.perf_counter()
    assert ended(in_child(lambda: publish_to(root, first))) == 0
    seconds = time.perf_counter() - started
    for number in range(25):
        root = folder / f"random-{number}"
        child = in_child(lambda root=root: publish_to(root, second))  # type: ignore[misc]
        time.sleep(seconds * dice.random())
        os.kill(child, signal.SIGKILL)
        kills += ended(child) == -signal.SIGKILL
        assert len(assert_whole(root)) <= 1
        settled(root, second, 1)
    return kills


def publish_to(root: Path, wanted: Candidate) -> None:
    publish(Repository(root), wanted, ["production"])


def on_full_disks(folder: Path, first: Candidate, second: Candidate) -> int:
    """`folder` is a file system of its own, whose size this process may change."""
    full = 0
    for pages in range(1, 40):
        root = folder / str(pages)
        resize(folder, 1 << 20)
        publish_to(root, first)
        resize(folder, used(folder) + pages * 4096)
        code = ended(in_child(lambda root=root: publish_to(root, second)))  # type: ignore[misc]
        assert code in (0, FULL), code
        assert 1 <= len(assert_whole(root)) <= 2
        resize(folder, 1 << 20)
        settled(root, second, 2)
        full += code == FULL
        if code == 0:
            return full
    raise AssertionError("there was never room enough")


def used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_bsize


def resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def all_at_once(folder: Path, wanted: list[Candidate]) -> int:
    """Every artifact is published by two processes at the same time, all of them to one model."""
    root = folder / "together"
    children = [in_child(lambda each=each: publish_to(root, each)) for each in wanted * 2]  # type: ignore[misc]
    assert [ended(child) for child in children] == [0] * len(children)
    assert len(assert_whole(root)) == len(wanted)
    fingerprints = {Repository(root).record("m", version) for version in Repository(root).versions("m")}
    assert {each.fingerprint for each in fingerprints if each} == {each.fingerprint for each in wanted}
    settled(root, wanted[0], len(wanted))
    return len(children)


def main(how: str, folder: Path) -> int:
    source = folder.with_name(f"{folder.name}-source")
    if how == "all-at-once":
        return all_at_once(folder, list(candidates(source, 4)))
    first, second = candidates(source, 2)
    ways = {"events": killed_at_every_event, "instants": killed_at_random_instants, "full": on_full_disks}
    return ways[how](folder, first, second)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], Path(sys.argv[2]))}\n")
