"""Killed at random instants, a run ends in the same bytes as if it had never been disturbed."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Lab, finished, kill, new_lab

RUN = "run long.yaml --threads 1"
STORES = 4
SECONDS_OF_TRAINING = 0.6  # of `long.yaml`, after its first checkpoint; 0.5–1.3 were seen
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed."""

    bytes: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    lab = new_lab(tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    result = lab(RUN)
    assert result.code == 0, result.err
    return Undisturbed(lab.bytes_of(), time.monotonic() - started)


def checkpoints(lab: Lab) -> list[Path]:
    return list(lab.store.glob("work/*/resume/checkpoint.safetensors"))


def wait_for_a_checkpoint(lab: Lab, process: subprocess.Popen[str]) -> None:
    """Until training has written its first checkpoint, or the process has ended."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not checkpoints(lab) and process.poll() is None:
        assert time.monotonic() < patience
        time.sleep(0.005)


@pytest.fixture
def in_training(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """A run that has just written its first checkpoint."""
    process = lab.start(RUN)
    wait_for_a_checkpoint(lab, process)
    assert process.poll() is None, finished(process)
    yield process
    kill(process)


def delays(seconds: float, count: int, seed: int) -> list[float]:
    """Instants spread over a run, one drawn from each of `count` equal parts, in a shuffled order."""
    dice = random.Random(seed)
    instants = [seconds * (part + dice.random()) / count for part in range(count)]
    dice.shuffle(instants)
    return instants


def test_kills_at_random_instants_change_no_byte(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Each store sees several kills before a run gets through: two anywhere in a run, one while it trains."""
    instants = iter(delays(undisturbed.seconds, 2 * STORES, seed=11))
    in_training = iter(delays(SECONDS_OF_TRAINING, STORES, seed=12))
    has_resumed = []
    for number in range(STORES):
        (tmp_path / str(number)).mkdir()
        lab = new_lab(tmp_path / str(number))
        for is_aimed in (False, True, False):
            process = lab.start(RUN)
            if is_aimed:
                wait_for_a_checkpoint(lab, process)
            time.sleep(next(in_training if is_aimed else instants))
            kill(process)
            checked = lab("verify long.yaml")
            assert checked.code == 0, checked.out
        ended_as_undisturbed(lab, undisturbed)
        has_resumed.append(lab.json("show long.yaml")[1]["manifest"]["made"]["resumed"])
    assert True in has_resumed


def ended_as_undisturbed(lab: Lab, undisturbed: Undisturbed) -> list[str]:
    """Run to the end; the outcomes of that last run."""
    verdict = lab.json(RUN)
    assert lab.bytes_of() == undisturbed.bytes
    assert list((lab.store / "work").iterdir()) == []
    return [step["outcome"] for step in verdict["steps"]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_training_is_obeyed_and_the_run_goes_on_later(
    number: signal.Signals, code: int, lab: Lab, in_training: subprocess.Popen[str], undisturbed: Undisturbed
) -> None:
    in_training.send_signal(number)
    result = finished(in_training)
    assert result.code == code
    assert "Traceback" not in result.err
    assert "run the same command again; it goes on where it stopped" in result.err
    plan = lab("plan long.yaml").out.splitlines()
    assert plan == ["prepare  reuse", "train    resume goes on where it stopped"]
    assert ended_as_undisturbed(lab, undisturbed) == ["reused", "resumed"]


def test_a_kill_in_training_is_planned_as_a_resume_unless_the_step_is_forced(
    lab: Lab, in_training: subprocess.Popen[str], undisturbed: Undisturbed
) -> None:
    kill(in_training)
    plan = [(step["step"], step["action"]) for step in lab.json("plan long.yaml")]
    assert plan == [("prepare", "reuse"), ("train", "resume")]
    verdict = lab.json(f"{RUN} --force train")
    assert [step["outcome"] for step in verdict["steps"]] == ["reused", "ran"]
    assert lab.bytes_of() == undisturbed.bytes


def test_of_two_runs_one_makes_and_the_other_waits_and_takes(lab: Lab, undisturbed: Undisturbed) -> None:
    both = [lab.start(RUN) for _ in range(2)]
    first, second = (finished(process) for process in both)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert lab.bytes_of() == undisturbed.bytes
    lines = (first.err + second.err).splitlines()
    assert [line for line in lines if line.startswith("train    done")] != []
    assert len([line for line in lines if line.startswith("train    done")]) == 1
    assert [line for line in lines if "another process is making it" in line] != []


def test_a_run_that_waits_takes_over_when_the_maker_dies(
    lab: Lab, in_training: subprocess.Popen[str], undisturbed: Undisturbed
) -> None:
    waiting = lab.start(RUN)
    assert waiting.stderr
    while "another process is making it" not in waiting.stderr.readline():
        assert waiting.poll() is None
    kill(in_training)
    result = finished(waiting)
    assert result.code == 0, result.err
    assert lab.bytes_of() == undisturbed.bytes
    assert lab.json("show long.yaml")[1]["manifest"]["made"]["resumed"] is True


def test_an_interrupt_while_waiting_leaves_the_maker_alone(
    lab: Lab, in_training: subprocess.Popen[str], undisturbed: Undisturbed
) -> None:
    waiting = lab.start(RUN)
    assert waiting.stderr
    while "another process is making it" not in waiting.stderr.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGTERM)
    assert finished(waiting).code == 143
    assert finished(in_training).code == 0
    assert lab.bytes_of() == undisturbed.bytes
