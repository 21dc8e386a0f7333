"""Several processes that train one student on its teacher's layers."""

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch.testing import assert_close


def start(folder: Path, rank: int, count: int) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(here / "imitating_together.py"), str(folder), str(rank), str(count)]
    return subprocess.Popen(command, env=environment)


def test_two_processes_come_to_the_student_and_the_projections_of_one(tmp_path: Path) -> None:
    processes = [start(tmp_path, 0, 1), start(tmp_path, 0, 2), start(tmp_path, 1, 2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    alone = load_file(tmp_path / "0-1.safetensors")
    assert any(name.startswith("projections.") for name in alone)
    for rank in range(2):
        for name, weights in load_file(tmp_path / f"{rank}-2.safetensors").items():
            # Six steps of AdamW whose gradients are the same float32 sums in another order.
            assert_close(weights, alone[name], rtol=1e-4, atol=1e-6)
