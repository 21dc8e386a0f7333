import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import Classification, Outcome, assert_same, small_fit
from torch import Tensor

from mlctl.errors import Interrupted
from mlctl.events import Event, Warned
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule, SgdSettings

LONG: dict[str, Any] = {"epochs": 4, "schedule": CosineSchedule(warmup=0.2), "optimizer": AdamWSettings(lr=1e-2)}
STEPS = 20  # 77 samples in batches of 16, four epochs


class Killer(Classification):
    """Sends this process a signal at one of the calls of `loss`."""

    def __init__(self, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.left = at
        self.number = number

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)
        return super().loss(outputs, targets)


@pytest.fixture(autouse=True)
def _gentle_handlers() -> Any:
    previous = {n: signal.signal(n, lambda number, frame: None) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("optimizer", [AdamWSettings(lr=1e-2), SgdSettings(lr=0.05)], ids=lambda each: each.name)
def test_interrupted_at_any_step_and_resumed_it_ends_in_the_same_bits(tmp_path: Path, optimizer: object) -> None:
    changes = {**LONG, "optimizer": optimizer}
    expected = small_fit(tmp_path / "whole", **changes)
    for step in range(1, STEPS + 1):
        resume = tmp_path / str(step)
        with pytest.raises(Interrupted) as interruption:
            small_fit(resume, objective=Killer(step), **changes)
        assert interruption.value.exit_code == 128 + signal.SIGTERM
        assert_same(small_fit(resume, **changes), expected)


def test_interrupted_at_every_step_it_still_gets_there(tmp_path: Path) -> None:
    expected = small_fit(tmp_path / "whole", **LONG)
    for _ in range(STEPS):
        with pytest.raises(Interrupted):
            small_fit(tmp_path / "parts", objective=Killer(1, signal.SIGINT), **LONG)
    assert_same(small_fit(tmp_path / "parts", **LONG), expected)


class KillerOfValidation(Killer):
    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)
        return super().totals(outputs, targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return Classification.loss(self, outputs, targets)


@pytest.mark.parametrize("batch", [1, 3, 4, 12])  # 40 samples are 3 batches an epoch
def test_interrupted_in_a_validation_it_goes_on_from_there(tmp_path: Path, batch: int) -> None:
    expected = small_fit(tmp_path / "whole", **LONG)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "parts", objective=KillerOfValidation(batch), **LONG)
    assert_same(small_fit(tmp_path / "parts", **LONG), expected)


def test_early_stopping_is_not_forgotten(tmp_path: Path) -> None:
    changes = {**LONG, "epochs": 8, "early_stopping": {"metric": "loss", "patience": 2, "min_delta": 0.5}}
    expected = small_fit(tmp_path / "whole", **changes)
    assert expected.fitted.stopped_early
    for _ in range(expected.fitted.history[-1].step):
        with pytest.raises(Interrupted):
            small_fit(tmp_path / "parts", objective=Killer(1), **changes)
    assert_same(small_fit(tmp_path / "parts", **changes), expected)


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path: Path) -> None:
    often = small_fit(tmp_path / "often", checkpoint_seconds=1e-9, **LONG)
    never = small_fit(tmp_path / "never", checkpoint_seconds=1e9, **LONG)
    assert not (tmp_path / "never").exists()
    assert_same(often, never)


def test_a_damaged_checkpoint_means_a_start_from_the_beginning(tmp_path: Path) -> None:
    expected = small_fit(tmp_path / "whole", **LONG)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "parts", objective=Killer(7), **LONG)
    file = tmp_path / "parts" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    told: list[Event] = []
    assert_same(small_fit(tmp_path / "parts", tell=told.append, **LONG), expected)
    assert any(isinstance(event, Warned) for event in told)


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from safetensors.torch import save_file
from small_fits import small_fit
from test_resume import LONG

folder, rounds = Path(sys.argv[1]), random.Random(11)

def train(resume, out):
    outcome = small_fit(resume, checkpoint_seconds=1e-9, samples=400, **LONG)
    save_file(outcome.weights, out / "weights.safetensors")
    (out / "history.jsonl").write_text(outcome.fitted.metrics_jsonl)

def start(resume, out):
    out.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            train(resume, out)
        finally:
            os._exit(0)
    return child

began = time.monotonic()
os.waitpid(start(folder / "resume-whole", folder / "whole"), 0)
seconds, kills = time.monotonic() - began, []
for attempt in range(200):
    child = start(folder / "resume", folder / "parts")
    time.sleep(seconds * rounds.uniform(0.0, 0.15 + 0.05 * attempt))
    os.kill(child, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kills.append(killed)
    if not killed:
        break
(folder / "kills.json").write_text(json.dumps(kills))
"""


def test_killed_at_random_instants_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=True)
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert sum(kills) >= 2
    assert not kills[-1]
    for name in ("weights.safetensors", "history.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_was_finished_is_not_trained_again(tmp_path: Path) -> None:
    expected: Outcome = small_fit(tmp_path, checkpoint_seconds=1e-9, **LONG)
    before = torch.get_rng_state()
    again = small_fit(tmp_path, objective=Killer(1, signal.SIGTERM), **LONG)
    assert_same(again, expected)
    assert torch.equal(torch.get_rng_state(), before)
