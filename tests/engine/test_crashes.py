"""A kill at any instant leaves nothing half-made, and the next run ends in the same bytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One report for every instant; made in a process of its own, because it forks."""
    script = Path(__file__).with_name("crashing.py")
    folder = tmp_path_factory.mktemp("crashes")
    finished = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_there_are_many_instants_and_the_last_run_of_each_kind_was_not_killed(rounds: list[dict[str, Any]]) -> None:
    for is_forced in (False, True):
        of_kind = [each for each in rounds if each["is_forced"] is is_forced]
        assert len(of_kind) > 40
        assert [each["is_killed"] for each in of_kind] == [True] * (len(of_kind) - 1) + [False]


def test_nothing_damaged_is_ever_visible(rounds: list[dict[str, Any]]) -> None:
    assert [each for each in rounds if each["damage"]] == []


def test_the_next_run_ends_in_the_same_bytes_whatever_the_instant(rounds: list[dict[str, Any]]) -> None:
    undisturbed = rounds[-1]["contents"]
    assert len(undisturbed) == 4
    assert [each for each in rounds if each["contents"] != undisturbed or each["exit_code"] != 0] == []


def test_the_next_run_sets_every_link_and_leaves_no_work(rounds: list[dict[str, Any]]) -> None:
    assert [each for each in rounds if each["links"] != ["above", "below"]] == []
    assert [each for each in rounds if each["left"]] == []


def test_the_kills_reach_every_state_of_a_step(rounds: list[dict[str, Any]]) -> None:
    seen = {outcome for each in rounds for _, outcome in each["outcomes"]}
    assert seen == {"ran", "resumed", "reused"}
