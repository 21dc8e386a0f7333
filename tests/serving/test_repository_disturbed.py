"""Publishers that are killed, find no room, or meet each other: what is visible is whole, and what is left is swept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SMALL_DISK = "mount -t tmpfs -o size=1m tmpfs {folder} && exec {command}"


def disturbed(how: str, folder: Path, *before: str) -> int:
    """Run `disturbed_publishers.py`; how many publishers were disturbed."""
    folder.mkdir()
    command = [sys.executable, str(HERE / "disturbed_publishers.py"), how, str(folder)]
    if before:
        command = [*before, SMALL_DISK.format(folder=folder, command=" ".join(command))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def may_mount() -> bool:
    try:
        tried = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp"], check=False
        )
    except FileNotFoundError:
        return False
    return tried.returncode == 0


def test_a_publisher_that_is_killed_before_any_call_of_the_system_leaves_a_whole_repository(tmp_path: Path) -> None:
    # It writes seven files and moves two labels: there must be many instants at which it can be killed.
    assert disturbed("events", tmp_path / "killed") > 40


def test_a_publisher_that_is_killed_at_any_instant_leaves_a_whole_repository(tmp_path: Path) -> None:
    assert disturbed("instants", tmp_path / "killed") > 0


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a small disk")
def test_a_publisher_without_room_leaves_a_whole_repository(tmp_path: Path) -> None:
    # A disk is counted in pages of 4 kB, and a version has four files.
    assert disturbed("full", tmp_path / "full", "unshare", "--map-root-user", "--mount", "sh", "-c") >= 4


def test_publishers_at_the_same_time_get_a_version_for_every_artifact(tmp_path: Path) -> None:
    assert disturbed("all-at-once", tmp_path / "together") == 8
