"""`mlctl verify --resume` trains, kills, resumes and compares: a training that forgets something is found."""

import json
import re
import signal
from pathlib import Path

import pytest
from conftest import TINY, Lab, finished

FORGETFUL = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.layer = nn.Linear(input_shapes[0][0], outputs)
        self.calls = 0  # no checkpoint holds it

    def forward(self, rows):
        if self.training:
            self.calls += 1
        return self.layer(rows) * (1.0 + 0.01 * self.calls if self.training else 1.0)
"""


def stores(lab: Lab) -> set[str]:
    """What is in the recipe's own store, by name."""
    return {path.name for path in lab.store.iterdir()}


def test_a_training_that_resumes_exactly_is_said_to(lab: Lab) -> None:
    result = lab("verify --resume tiny.yaml --seed 7 --threads 1 --set train.epochs=4")
    assert result.code == 0, result.err
    lines = [line.removeprefix("train  ") for line in result.out.splitlines()]
    said = re.fullmatch(r"killed after step (\d+) of 12, resumed after step (\d+)", lines[0])
    assert said
    assert 1 <= int(said[2]) <= int(said[1]) <= 12
    assert re.fullmatch(r"[0-9a-f]{64}  undisturbed", lines[1])
    assert lines[2].split()[0] == lines[1].split()[0]
    assert lines[3] == "the same weights; `--seed 7` does it again"
    assert "train    resume goes on where it stopped" in result.err


def test_a_seed_kills_at_the_same_step_again_and_the_prepared_data_is_used_again(lab: Lab) -> None:
    assert lab("prepare tiny.yaml").code == 0
    before = lab.bytes_of()
    line = "verify --resume tiny.yaml --seed 11 --threads 1 --json --quiet"
    first, second = (lab(line) for _ in range(2))
    assert (first.code, first.err) == (0, "")
    assert first.out == second.out
    (check,) = json.loads(first.out)
    assert (check["step"], check["seed"], check["steps"], check["same"]) == ("train", 11, 6, True)
    assert check["undisturbed"] == check["resumed"]
    assert lab.bytes_of() == before
    assert "verify" not in stores(lab)


def test_what_a_checkpoint_does_not_hold_is_found_with_an_exit_code_of_its_own(lab: Lab) -> None:
    (lab.folder / "nets.py").write_text(FORGETFUL)
    (lab.folder / "own.yaml").write_text(TINY.replace("{arch: mlp, hidden: [4]}", '{arch: "nets:Net"}'))
    refused = lab("verify --resume own.yaml")
    assert refused.code == 2
    assert "--allow-code" in refused.err
    result = lab("verify --resume own.yaml --allow-code --seed 3 --threads 1 --set train.epochs=8")
    assert result.code == 21, result.err
    lines = result.out.splitlines()
    assert lines[1].split()[1] != lines[2].split()[1]
    assert lines[3] == "train  other weights; `--seed 3` does it again"


def test_a_training_that_fails_is_that_failure(lab: Lab) -> None:
    result = lab("verify --resume tiny.yaml --threads 1 --set 'train.optimizer={name: sgd, lr: 1.0e+30}' --json")
    assert result.code == 4
    assert json.loads(result.out)["failures"][0]["what"].startswith("the loss")
    assert "verify" not in stores(lab)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_can_be_stopped_and_leaves_nothing(lab: Lab, number: signal.Signals) -> None:
    process = lab.start("verify --resume long.yaml --threads 1")
    assert process.stderr
    while "training" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    result = finished(process)
    assert result.code == 128 + number
    assert f"stopped by {number.name}" in result.err
    assert "verify" not in stores(lab)


@pytest.mark.parametrize("option", ["--seed 3", "--set train.epochs=2", "--allow-code"])
def test_options_of_a_resume_mean_nothing_without_it(lab: Lab, option: str) -> None:
    result = lab(f"verify tiny.yaml {option}")
    assert result.code == 2
    assert "add `--resume`" in result.err


def test_a_recipe_without_a_training_has_nothing_to_resume(lab: Lab) -> None:
    (lab.folder / "data.yaml").write_text(TINY.partition("train:")[0])
    result = lab("verify --resume data.yaml")
    assert (result.code, Path(lab.store).exists()) == (2, False)
    assert "the recipe has no train step" in result.err
