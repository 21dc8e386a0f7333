"""One model, trained by several processes: the same figures, the same bytes after kills, one voice."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LONG, Finished, Lab, finished, kill, new_lab
from safetensors.numpy import load_file

MANY = (
    LONG.replace("name: long", "name: many")
    .replace("hidden: [4]", "hidden: [32]")
    .replace("epochs: 500", "epochs: 100")
    .replace("checkpoint_seconds: 0.05", "checkpoint_seconds: 0.02")
)
"""Trains for a second or more, and writes a checkpoint whenever the one before is written."""
TRAIN = "train many.yaml --threads 1"
TWO = f"{TRAIN} --nproc-per-node 2"
PATIENCE_SECONDS = 90
FAILING = """\
import os
import signal

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.layer = nn.Linear(input_shapes[0][0], outputs)
        self.calls = 0

    def forward(self, rows):
        self.calls += 1
        if os.environ.get("RANK") == "1" and self.calls == 40:
            raise RuntimeError("boom")
        return self.layer(rows)


class Stopped(Net):
    def forward(self, rows):
        if os.environ.get("RANK") == "0" and self.calls == 39:
            signal.pause()
            os._exit(143)
        return super().forward(rows)
"""
"""`Net` fails in the process of rank 1; so does `Stopped`, whose leader ends by the launcher's SIGTERM, silent."""


def many_lab(folder: Path) -> Lab:
    lab = new_lab(folder)
    (folder / "many.yaml").write_text(MANY)
    (folder / "nets.py").write_text(FAILING)
    (folder / "failing.yaml").write_text(MANY.replace("{arch: mlp, hidden: [32]}", '{arch: "nets:Net"}'))
    return lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return many_lab(tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which one process has trained."""
    lab = many_lab(tmp_path_factory.mktemp("alone"))
    assert lab(TRAIN).code == 0
    return lab


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which two processes have trained, undisturbed."""
    lab = many_lab(tmp_path_factory.mktemp("together"))
    result = lab(TWO)
    assert result.code == 0, result.err
    lines = [line.split()[:2] for line in result.err.splitlines() if not line.startswith("train    epoch")]
    assert lines == [[step, what] for step in ("prepare", "train") for what in ("run", "done")]
    return lab


def weights(lab: Lab) -> dict[str, Any]:
    return load_file(lab.artifact("many", "train") / "model.safetensors")


def manifest(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lab.artifact("many", "train") / "manifest.json").read_text())
    return found


def epochs(lab: Lab) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab.artifact("many", "train") / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_learns(alone: Lab, together: Lab) -> None:
    """They sum the same terms in another order, so that each of 300 steps rounds otherwise."""
    for name, expected in weights(alone).items():
        # Weights of up to 0.8 differed by 6e-8, which is one rounding; a gradient near zero may turn that into more,
        # for AdamW divides it by its own size.
        np.testing.assert_allclose(weights(together)[name], expected, rtol=0, atol=5e-6, err_msg=name)
    for one, two in zip(epochs(alone), epochs(together), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["validation"] == pytest.approx(one["validation"], rel=1e-5)


def test_the_manifest_says_how_many_they_were(alone: Lab, together: Lab) -> None:
    made = manifest(together)["made"]
    assert (made["choices"]["processes"], made["choices"]["backend"], made["threads"]) == ("2", "gloo", 1)
    assert "processes" not in manifest(alone)["made"]["choices"]
    assert manifest(alone)["fingerprint"] == manifest(together)["fingerprint"]


def test_nothing_is_left_but_the_artifacts(together: Lab) -> None:
    assert list((together.store / "work").iterdir()) == []
    assert {path.name for path in together.folder.iterdir()} == {
        "rows.csv", "images.csv", "tiny.yaml", "long.yaml", "whole.yaml", "many.yaml", "failing.yaml", "nets.py",
        ".mlctl",
    }  # fmt: skip


def test_what_is_made_already_starts_no_process(together: Lab) -> None:
    result = together.watched(TWO)
    assert (result.code, result.err) == (0, "prepare  reuse\ntrain    reuse\n")
    assert "torch" not in result.modules


def children(process: subprocess.Popen[str]) -> dict[int, int]:
    """The process ids of those that it launched, by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(") ")[2].split()[1])
            rank = re.search(r"\0RANK=(\d+)", status.with_name("environ").read_text())
        except OSError:
            continue  # it ended meanwhile
        if parent == process.pid and rank:
            found[int(rank[1])] = int(status.parent.name)
    return found


def until_a_checkpoint(lab: Lab, process: subprocess.Popen[str]) -> dict[int, int]:
    """Wait until the training has written one; its processes, by rank."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not list(lab.store.glob("work/*/resume/checkpoint.safetensors")):
        assert process.poll() is None, finished(process)
        assert time.monotonic() < patience
        time.sleep(0.002)
    return children(process)


@pytest.fixture
def training(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Two processes that train, and the one that launched them."""
    process = lab.start(f"{TWO} --json")
    yield process
    kill(process)


@pytest.mark.parametrize("ranks", [(1,), (0, 1)], ids=["a follower", "all"])
def test_where_processes_are_killed_all_go_on_from_the_last_checkpoint_to_the_same_bytes(
    lab: Lab, together: Lab, training: subprocess.Popen[str], ranks: tuple[int, ...]
) -> None:
    started = until_a_checkpoint(lab, training)
    assert sorted(started) == [0, 1]
    for rank in ranks:
        os.kill(started[rank], signal.SIGKILL)
    result = finished(training)
    assert result.code == 0, result.err
    assert json.loads(result.out)["exit_code"] == 0
    assert lab.bytes_of() == together.bytes_of()
    assert manifest(lab)["made"]["resumed"] is True
    assert f"the process of rank {ranks[0]} was killed by SIGKILL" in result.err
    assert "Traceback" not in result.err
    assert list((lab.store / "work").iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_launcher_stops_all_in_order(
    lab: Lab, training: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    started = until_a_checkpoint(lab, training)
    training.send_signal(number)
    result = finished(training)
    assert result.code == code
    assert [failure["what"] for failure in json.loads(result.out)["failures"]] == [f"stopped by {number.name}"]
    assert not any(Path(f"/proc/{process}").exists() for process in started.values())
    assert lab("plan many.yaml").out.splitlines()[1] == "train    resume goes on where it stopped"


def test_a_signal_to_one_that_follows_stops_all_in_order(lab: Lab, training: subprocess.Popen[str]) -> None:
    os.kill(until_a_checkpoint(lab, training)[1], signal.SIGTERM)
    result = finished(training)
    assert result.code == 143, result.err
    assert [failure["what"] for failure in json.loads(result.out)["failures"]] == ["stopped by SIGTERM"]
    assert lab("plan many.yaml").out.splitlines()[1] == "train    resume goes on where it stopped"


def test_processes_die_with_their_launcher(lab: Lab, training: subprocess.Popen[str]) -> None:
    started = until_a_checkpoint(lab, training)
    training.kill()
    training.wait()
    patience = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{process}/environ").exists() and is_alive(process) for process in started.values()):
        assert time.monotonic() < patience
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_failure_of_one_is_told_once_and_is_the_failure_of_all(lab: Lab) -> None:
    result = lab("train failing.yaml --threads 1 --nproc-per-node 2 --allow-code")
    assert result.code == 4
    assert result.err.count("mlctl: ") == 1
    assert "mlctl: train: in the process of rank 1: the network cannot be trained: RuntimeError: boom" in result.err
    assert "Traceback" not in result.err


def test_a_failure_of_one_is_told_in_the_same_words_where_the_leader_was_stopped_before_it_could(lab: Lab) -> None:
    line = "train failing.yaml --threads 1 --nproc-per-node 2 --allow-code --set train.model.arch=nets:Stopped"
    result = lab(line)
    assert result.code == 4
    assert "mlctl: train: in the process of rank 1: the network cannot be trained: RuntimeError: boom" in result.err
    assert result.err.count("mlctl: ") == 1


def torchrun(lab: Lab, *arguments: str) -> Finished:
    """The command in two processes, started by the program beside this Python."""
    program = str(Path(sys.executable).with_name("torchrun"))
    command = [program, "--nproc-per-node", "2", "-m", "mlctl", *arguments]
    done = subprocess.run(command, cwd=lab.folder, env=lab.environment(), capture_output=True, text=True, timeout=120)
    return Finished(done.returncode, done.stdout, done.stderr)


def test_under_torchrun_they_join_and_the_leader_alone_does_the_rest(lab: Lab) -> None:
    found = torchrun(lab, "run", "whole.yaml", "--threads", "1")
    assert found.code == 0, found.err
    told = [line for line in found.err.splitlines() if re.match("prepare|train|export|eval", line)]
    assert [line.split()[:2] for line in told if " done " in line] == [
        [step, "done"] for step in ("prepare", "train", "export", "eval")
    ]
    assert found.out.count("eval: 6 rows of the test split") == 1
    assert list((lab.store / "work").iterdir()) == []


def test_one_process_prunes_while_the_others_wait_and_all_of_them_distil(lab: Lab) -> None:
    text = (lab.folder / "whole.yaml").read_text().partition("\nexport:")[0]
    fit = "epochs: 2, batch_size: 16, precision: float32"
    steps = (
        f"prune: {{ratio: 0.5, scope: layer, finetune: {{{fit}}}}}",
        f"distill: {{teacher: train, from: prune, {fit}}}",
        "export: {}",
        f"quantize: {{method: qat, {fit}}}",
    )
    (lab.folder / "smaller.yaml").write_text("\n".join([text, *steps]) + "\n")
    found = torchrun(lab, "run", "smaller.yaml", "--threads", "1")
    assert found.code == 0, found.err
    # Whichever process comes first makes what is not shared.
    made = {line.split()[0] for line in found.err.splitlines() if line.split()[1:2] in (["done"], ["reuse"])}
    assert made == {"prepare", "train", "prune", "distill:teacher", "distill", "export", "quantize"}
    manifest = json.loads((lab.artifact("whole", "distill") / "manifest.json").read_text())
    assert manifest["made"]["choices"]["processes"] == "2"


def test_under_slurm_they_join(lab: Lab, together: Lab) -> None:
    task = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": "localhost",
    }  # fmt: skip
    tasks = [lab.start(TRAIN, **task, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]
    leader, follower = map(finished, tasks)
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert (follower.out, follower.err) == ("", "")
    assert leader.out.splitlines()[1].startswith("train    validation_loss")
    assert lab.bytes_of() == together.bytes_of()


def test_on_several_machines_each_has_a_store_of_its_own_and_the_leaders_has_the_model(lab: Lab, together: Lab) -> None:
    """The two launchers are on one machine here, but nothing of theirs is shared but the place where they meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = f"{TRAIN} --nproc-per-node 1 --nnodes 2 --rdzv-endpoint localhost:{port} --store"
    both = [lab.start(f"{line} {lab.folder / name}") for name in ("first", "second")]
    results = [finished(process) for process in both]
    assert [result.code for result in results] == [0, 0], results
    assert sorted(bool(result.out) for result in results) == [False, True]
    leader = next(name for name, result in zip(("first", "second"), results, strict=True) if result.out)
    assert lab.bytes_of(lab.folder / leader) == together.bytes_of()
    other = lab.folder / ({"first", "second"} - {leader}).pop()
    assert len(list((other / "artifacts").iterdir())) == 1
    assert list((other / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nnodes 2", "several machines need a place to meet"),
        ("--rdzv-endpoint a:1", "one machine needs no place to meet"),
        ("--nproc-per-node 2 --find-lr", "one process tries learning rates"),
        ("--output curve.png", "`--output` is where `--find-lr` draws its curve"),
        ("--nproc-per-node 2 --set train.epohcs=1", "unknown key; did you mean 'epochs'?"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(lab: Lab, line: str, message: str) -> None:
    result = lab.watched(f"{TRAIN} {line}")
    assert result.code == 2
    assert message in result.err
    assert "torch" not in result.modules


def test_nonsense_in_the_environment_is_refused(lab: Lab) -> None:
    result = lab(TRAIN, WORLD_SIZE="2", RANK="2", MASTER_ADDR="localhost", MASTER_PORT="1")
    assert result.code == 2
    assert "the environment variable RANK is '2', where a number from 0 to 1 belongs" in result.err
