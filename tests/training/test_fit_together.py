"""Several processes learn what one learns, whatever is left over for each of them, and whatever room one has."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

ROOMY, CRAMPED = 1000, 4


def start(folder: Path, rank: int, count: int, room: int) -> "subprocess.Popen[bytes]":
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path]), "OMP_NUM_THREADS": "1"}
    arguments = [str(folder), str(rank), str(count), str(room)]
    return subprocess.Popen([sys.executable, str(here / "together.py"), *arguments], env=environment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process left, and three of which one has no room for four rows."""
    folder = tmp_path_factory.mktemp("together")
    processes = [start(folder, 0, 1, ROOMY), *(start(folder, rank, 3, CRAMPED) for rank in range(3))]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0, 0]
    return folder


def said(folder: Path, rank: int, count: int) -> Any:
    return json.loads((folder / f"{rank}-{count}.json").read_text())


def test_three_processes_come_to_the_weights_of_one(trained: Path) -> None:
    alone = load_file(trained / "0-1.safetensors")
    for rank in range(3):
        for name, weights in load_file(trained / f"{rank}-3.safetensors").items():
            # Nine steps of AdamW whose gradients are the same float32 sums in another order.
            assert_close(weights, alone[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("figures", ["losses", "validation"])
def test_every_process_knows_the_figures_of_the_whole(trained: Path, figures: str) -> None:
    alone = said(trained, 0, 1)[figures]
    for rank in range(3):
        found = said(trained, rank, 3)[figures]
        for epoch, expected in zip(found, alone, strict=True):
            assert epoch == pytest.approx(expected, rel=1e-5)
    assert said(trained, 1, 3)[figures] == said(trained, 0, 3)[figures]


def test_room_is_looked_for_before_the_first_step_and_the_least_decides_for_all(trained: Path) -> None:
    """Of 16 rows process 1 has five, and after it found no room for them, two and three."""
    assert {said(trained, rank, 3)["micro_batch"] for rank in range(3)} == {"3: cpu has no room for more"}
    assert said(trained, 1, 3)["seen"][:4] == [2, 5, 2, 3]  # a first pass to settle, two attempts
    assert said(trained, 0, 3)["seen"][:2] == [2, 5]


def test_a_process_without_samples_of_its_own_takes_part(trained: Path) -> None:
    """The last batch has two samples, of which the process of rank 0 has none: it shows its network both of them."""
    batches = [2, 3, 2, 3, 2]
    validated = [2, 3, 2, 3, 2]  # of 40 samples in batches of 16
    assert said(trained, 0, 3)["seen"][2:] == 3 * (batches + validated)
