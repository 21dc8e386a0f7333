"""quantize as a process: interrupted, killed and run twice at once, it ends in the same bytes and leaves nothing."""

import signal
import subprocess
from pathlib import Path

import pytest
from conftest import COMMAND, Lab, finished, kill

LINE = "quantize quantized.yaml --threads 1"

HALTING = """
import os, sys, time
from mlctl.compression.quantization import calibration
from mlctl.compression.quantization.calibration_state import CalibrationState

class Halting(CalibrationState):
    written = 0

    def is_due(self):
        return True

    def write(self, progressed):
        super().write(progressed)
        self.written += 1
        if self.written == 3:
            print("halted", file=sys.stderr, flush=True)
            while not os.path.exists("go"):
                time.sleep(0.01)

calibration.MOST_ROWS = 5
calibration.CalibrationState = Halting
"""
"""After the state was written for the third time, at 15 of 48 rows, it waits for a file with the name `go`."""


@pytest.fixture
def quantizing(finished_lab: Lab) -> Lab:
    """`quantized.yaml` quantizes what `whole.yaml` exported."""
    text = (finished_lab.folder / "whole.yaml").read_text().split("\neval:")[0]
    (finished_lab.folder / "quantized.yaml").write_text(f"{text}\nquantize: {{method: static}}\n")
    return finished_lab


def files(lab: Lab) -> dict[str, bytes]:
    folder = lab.artifact("whole", "quantize")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read what the process says until it says this."""
    assert process.stderr
    while words not in process.stderr.readline():
        assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_its_calibration_it_goes_on_to_the_same_bytes(
    quantizing: Lab, tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    here = {path.name for path in quantizing.folder.iterdir()}
    # ONNX Runtime itself leaves a file for its telemetry there, unless it is told not to.
    quiet = {"TMPDIR": str(temporary), "ORT_DISABLE_TELEMETRY": "1"}
    process = quantizing.start(LINE, code=HALTING + COMMAND, **quiet)
    wait_for(process, "halted")
    if number == signal.SIGKILL:
        kill(process)
    else:
        process.send_signal(number)
        stopped = finished(process)
        assert stopped.code == 130, stopped.err
        assert "Traceback" not in stopped.err
    assert quantizing("plan quantized.yaml").out.splitlines()[-1] == "quantize  resume goes on where it stopped"
    verdict = quantizing.json(LINE)
    assert verdict["steps"][-1]["outcome"] == "resumed"
    resumed = files(quantizing)
    assert quantizing(f"{LINE} --force quantize").code == 0
    assert files(quantizing) == resumed
    assert {path.name for path in quantizing.folder.iterdir()} == here
    assert list(temporary.iterdir()) == []
    assert list((quantizing.store / "work").iterdir()) == []


def test_nothing_is_left_in_the_temporary_folder_or_at_home(quantizing: Lab, tmp_path: Path) -> None:
    """Not even by ONNX Runtime, which counts its sessions in both unless the command tells it not to."""
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    done = finished(quantizing.start(LINE, TMPDIR=str(temporary), HOME=str(home)))
    assert done.code == 0, done.err
    assert (list(temporary.rglob("*")), list(home.rglob("*"))) == ([], [])


def test_of_two_at_once_one_makes_and_the_other_takes(quantizing: Lab) -> None:
    first = quantizing.start(LINE, code=HALTING + COMMAND)
    wait_for(first, "halted")
    second = quantizing.start(LINE)
    wait_for(second, "another process is making it")
    (quantizing.folder / "go").touch()
    made, taken = finished(first), finished(second)
    assert (made.code, taken.code) == (0, 0), made.err + taken.err
    assert "quantize  done" in made.err
    assert "quantize  done" not in taken.err
