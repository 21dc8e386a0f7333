import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import Classification, NextToken, Outcome, assert_same, is_text, small_fit
from small_lives import KILLS, LIVES
from torch import Tensor

from mlctl.errors import Interrupted
from mlctl.events import Event, Warned, silent
from mlctl.recipe.networks import NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule
from mlctl.training.checkpoints import CheckpointFile

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


class KillerOfTexts(Killer, NextToken):
    """The same for logits of tokens."""


def killer(network: NetworkSettings, at: int) -> Killer:
    return KillerOfTexts(at) if is_text(network) else Killer(at)


@pytest.fixture(autouse=True)
def _gentle_handlers() -> Any:
    previous = {n: signal.signal(n, lambda number, frame: None) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", LIVES)
def test_interrupted_at_any_step_and_resumed_it_ends_in_the_same_bits(tmp_path: Path, name: str) -> None:
    network, changes = LIVES[name]
    changes = {"epochs": 3, "samples": 40, **changes}  # three steps an epoch, six of them where parts are learnt from
    expected = small_fit(tmp_path / "whole", network, **changes)
    for step in (1, 2, 3, 5, 8):
        resume = tmp_path / str(step)
        with pytest.raises(Interrupted) as interruption:
            small_fit(resume, network, objective=killer(network, step), **changes)
        assert interruption.value.exit_code == 128 + signal.SIGTERM
        assert_same(small_fit(resume, network, **changes), expected)


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
    changes = {**LONG, "ema": 0.9}  # the network has the mean just then
    expected = small_fit(tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "parts", objective=KillerOfValidation(batch), **changes)
    assert_same(small_fit(tmp_path / "parts", **changes), expected)


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


def test_checkpoints_by_epoch_are_written_after_so_many_epochs(tmp_path: Path) -> None:
    changes = {**LONG, "checkpoint_seconds": 1e9, "epochs": 5}
    whole = small_fit(tmp_path / "whole", **changes)
    assert_same(small_fit(tmp_path / "some", checkpoint_epochs=2, **changes), whole)
    found = CheckpointFile(tmp_path / "some", 30, silent).read(total_steps=25)
    assert found is not None
    assert (found.epoch, found.step, len(found.history)) == (4, 0, 4)
    assert_same(small_fit(tmp_path / "some", checkpoint_epochs=2, **changes), whole)


def test_a_damaged_checkpoint_means_a_start_from_the_beginning(tmp_path: Path) -> None:
    expected = small_fit(tmp_path / "whole", **LONG)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "parts", objective=Killer(7), **LONG)
    file = tmp_path / "parts" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    told: list[Event] = []
    assert_same(small_fit(tmp_path / "parts", tell=told.append, **LONG), expected)
    assert any(isinstance(event, Warned) for event in told)


@pytest.mark.parametrize("name", LIVES)
def test_killed_in_a_step_an_epoch_or_a_write_it_ends_in_the_same_bytes(tmp_path: Path, name: str) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    subprocess.run([sys.executable, here / "small_lives.py", tmp_path, name], env=environment, check=True)
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert dict(zip(KILLS[:-1], kills, strict=False)) == dict.fromkeys(KILLS[:-1], True)
    for kind in ("safetensors", "jsonl"):
        assert (tmp_path / f"killed.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


def test_what_was_finished_is_not_trained_again(tmp_path: Path) -> None:
    expected: Outcome = small_fit(tmp_path, checkpoint_epochs=1, **LONG)
    before = torch.get_rng_state()
    again = small_fit(tmp_path, objective=Killer(1, signal.SIGTERM), **LONG)
    assert_same(again, expected)
    assert torch.equal(torch.get_rng_state(), before)
