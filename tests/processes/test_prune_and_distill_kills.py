"""Killed in the middle of a pruning or a distillation, a run ends in the same bytes as if never disturbed."""

import subprocess
import time
from pathlib import Path

import pytest
from conftest import Lab, kill, new_lab

RECIPE = """\
mlctl: 1
name: smaller
seed: 3

prepare:
  task: image-classification
  source: images.csv
  image: {columns: "pixel_*", shape: [1, 4, 4], scale: 16}
  label: side

train: {model: {arch: cnn, channels: [8, 12]}, epochs: 1, batch_size: 16, precision: float32}

prune:
  ratio: 0.5
  steps: 2
  finetune: {epochs: 150, batch_size: 16, precision: float32, checkpoint_seconds: 0.05}

distill:
  teacher: train
  from: prune
  epochs: 150
  batch_size: 16
  precision: float32
  checkpoint_seconds: 0.05
"""
RUN = "run smaller.yaml --threads 1"
MOMENTS = ("cut-0/cut.json", "fit-0/checkpoint.safetensors", "cut-1/cut.json", "fit-1/checkpoint.safetensors")
"""What a pruning has just written when it is killed, in its private folder."""
PATIENCE_SECONDS = 60


def smaller_lab(folder: Path) -> Lab:
    lab = new_lab(folder)
    (folder / "smaller.yaml").write_text(RECIPE)
    return lab


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    lab = smaller_lab(tmp_path_factory.mktemp("undisturbed"))
    result = lab(RUN)
    assert result.code == 0, result.err
    return lab.bytes_of()


def wait_for(lab: Lab, pattern: str, process: subprocess.Popen[str]) -> bool:
    """Whether the private folder of some step has such a file before the process ends."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None:
        if any(lab.store.glob(f"work/*/resume/{pattern}")):
            return True
        assert time.monotonic() < patience
        time.sleep(0.005)
    return False


def test_a_pruning_killed_after_every_cut_and_in_every_finetuning_ends_alike(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    lab = smaller_lab(tmp_path)
    for moment in MOMENTS:
        process = lab.start(RUN)
        assert wait_for(lab, moment, process), moment
        kill(process)
    result = lab(RUN)
    assert result.code == 0, result.err
    assert ["prune", "resume"] in [line.split()[:2] for line in result.err.splitlines()]
    assert lab.bytes_of() == undisturbed


def test_a_distillation_killed_in_the_middle_ends_alike(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    lab = smaller_lab(tmp_path)
    result = lab(f"{RUN} --until prune")
    assert result.code == 0, result.err
    process = lab.start(RUN)
    assert wait_for(lab, "checkpoint.safetensors", process)
    kill(process)
    result = lab(RUN)
    assert result.code == 0, result.err
    assert lab.bytes_of() == undisturbed
