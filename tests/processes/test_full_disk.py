"""A disk that is full: exit code 5, one message, nothing half-made, and the run goes through once there is room."""

import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import COMMAND, Finished, Lab, may_mount

RUN = "run tiny.yaml --threads 1 --store store"
SIZES_IN_KIBIBYTES = (4, 24, 52, 80)
"""From a disk that holds no more than the store's folders to one that lacks room for the last few files."""


@dataclass(frozen=True)
class Round:
    """A run on a small disk, and what came after."""

    full: Finished
    verified: int
    after: Finished
    """The same run when there was room again."""


def in_small_disk(lab: Lab, kibibytes: int) -> Round:
    """Run with a store on a disk of that size, in a mount namespace that ends with it; then make room and run again."""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(COMMAND)}"
    script = f"""
        mkdir store && mount -t tmpfs -o size={kibibytes}k tmpfs store || exit 99
        {command} {RUN} > full.out 2> full.err; echo $? > full.code
        {command} verify tiny.yaml --store store > verify.out 2> verify.err; echo $? > verify.code
        mount -o remount,size=64m store
        {command} {RUN} > after.out 2> after.err; echo $? > after.code
        cp -a store kept
    """
    subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=lab.folder,
        env={**lab.environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    full, after = (
        Finished(int(read(lab, f"{name}.code")), read(lab, f"{name}.out"), read(lab, f"{name}.err"))
        for name in ("full", "after")
    )
    return Round(full, int(read(lab, "verify.code")), after)


def read(lab: Lab, name: str) -> str:
    return (lab.folder / name).read_text()


def assert_says_full_once(result: Finished) -> None:
    assert result.code == 5, result.err
    messages = [line for line in result.err.splitlines() if line.startswith("mlctl: ")]
    assert len(messages) == 1
    assert "no room" in messages[0] or "No space left" in messages[0]
    assert "Traceback" not in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("  next: ")]) == 1


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a small disk")
@pytest.mark.parametrize("kibibytes", SIZES_IN_KIBIBYTES)
def test_a_run_on_a_full_disk(lab: Lab, finished_labs: Lab, kibibytes: int) -> None:
    found = in_small_disk(lab, kibibytes)
    assert_says_full_once(found.full)
    assert found.verified == 0
    assert found.after.code == 0, found.after.err
    assert lab.bytes_of(lab.folder / "kept").items() <= finished_labs.bytes_of().items()
    assert list((lab.folder / "kept" / "work").iterdir()) == []


@pytest.mark.parametrize("limit", [100, 1000])
def test_a_limit_on_the_size_of_files_is_a_full_disk(lab: Lab, finished_labs: Lab, limit: int) -> None:
    """No rights are needed for this one. Python's own caches are left alone: they would be cut off as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        process = lab.start(RUN, PYTHONDONTWRITEBYTECODE="1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    out, err = process.communicate()
    assert_says_full_once(Finished(process.returncode, out, err))
    assert lab("verify tiny.yaml --store store").code == 0
    after = lab(RUN)
    assert after.code == 0, after.err
    assert lab.bytes_of(lab.folder / "store").items() <= finished_labs.bytes_of().items()


def test_a_full_device_for_results_is_an_environment_error(finished_lab: Lab) -> None:
    """`/dev/full` takes what is written and refuses to keep it."""
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(COMMAND)} schema > /dev/full"
    result = subprocess.run(
        ["sh", "-c", line], env=dict(finished_lab.environment()), capture_output=True, text=True, check=False
    )
    assert result.returncode == 5
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("mlctl: ")
