"""A small convolutional graph on disk, rows for it, and its calibration in a process that can be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import mlctl
from mlctl.compression.quantization import calibration
from mlctl.compression.quantization.calibration import Calibration, Resources, Rows, calibrate
from mlctl.compression.quantization.calibration_state import CalibrationState
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.events import Event, Progress, Tell, silent

TENSORS = ("x", "first", "kept", "second", "pooled", "y")
"""Every tensor of the graph, of quite different sizes."""

ENTROPY = RangeRule("entropy")
ONE_GIB = 1 << 30


SMALL = 10_000
"""Bytes that hold one row of the widest tensors, and not of all of them: the graph takes two slices."""


def conv_graph(*, channels: int = 16, side: int = 8) -> onnx.ModelProto:
    """Images float32 [B, 1, side, side] to logits [B, 5]; some of its weights are larger than a kilobyte."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["first"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["kept"], "relu1"),
        helper.make_node("Conv", ["kept", "w2"], ["second"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["second"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w3"], ["y"], "head"),
    ]
    dice = np.random.default_rng(2)
    shapes = {"w1": (channels, 1, 3, 3), "b1": (channels,), "w2": (channels, channels, 3, 3), "w3": (channels, 5)}
    stored = {name: dice.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "images",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """The graph as `folder`/float.onnx."""
    path = folder / "float.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def images(count: int, side: int = 8) -> npt.NDArray[np.float32]:
    """Rows with tails, [count, 1, side, side]."""
    return np.random.default_rng(9).standard_t(4, (count, 1, side, side)).astype(np.float32)


def every(values: npt.NDArray[np.float32]) -> Rows:
    return Rows((values,), np.arange(len(values)))


def resources(folder: Path, *, threads: int = 1, max_memory: int = ONE_GIB) -> Resources:
    """With folders for scratch and for the state inside `folder`, which are made."""
    found = Resources(threads, max_memory, folder / "scratch", folder / "resume")
    found.scratch.mkdir(exist_ok=True)
    found.resume.mkdir(exist_ok=True)
    return found


def calibrated(
    graph: Path, rows: Rows, means: Resources, *, rule: RangeRule = ENTROPY, tell: Tell = silent
) -> Calibration:
    """The ranges of every tensor of the graph."""
    return calibrate(graph, TENSORS, rows, rule=rule, resources=means, tell=tell)


def writing_always(write: Callable[..., CalibrationState] = CalibrationState) -> partial[CalibrationState]:
    """A state that is written after every call."""
    return partial(write, seconds=0)


def assert_alike(found: Calibration, expected: Calibration) -> None:
    """ONNX Runtime's sums may differ in their last bits between batch sizes, and where a sum stands in a bin with
    them: never by more than a candidate threshold, of which there are 192."""
    assert found.ranges.keys() == expected.ranges.keys()
    for name, wanted in expected.ranges.items():
        tolerance = 1e-5 * (wanted.high - wanted.low)
        assert abs(found.ranges[name].low - wanted.low) <= tolerance
        assert abs(found.ranges[name].high - wanted.high) <= tolerance


def in_process(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own that finds this package and the rows."""
    roots = (Path(mlctl.__file__).parents[1], Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class Interrupting:
    """Presses Ctrl-C when so many rows are reported as counted."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.done >= self._rows:
            raise KeyboardInterrupt


def _main(folder: Path, kill_at: str, number: int, threads: int) -> None:
    """Calibrate 60 rows three at a time, writing the state after every call, until something ends this process."""
    seen = 0

    def killing(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event == kill_at and ".writing" in str(arguments[0]):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(killing)
    calibration.MOST_ROWS = 3
    setattr(calibration, "CalibrationState", writing_always())  # noqa: B010
    calibrated(folder / "float.onnx", every(images(60)), resources(folder, threads=threads, max_memory=SMALL))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
