"""Calibration and static int8 of a ResNet-18 at 224×224: mlctl beside ONNX Runtime's own `quantize_static`.

Every run is a process of its own, from the float file to the int8 file, so that its peak memory is its own. The tools
take turns. Peak memory is what the process takes above what its imported libraries do.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from ratios import Ratio

from mlctl.compression.quantization.calibration import Resources, Rows, calibrate
from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.events import silent
from mlctl.graphs.outline import weightless
from mlctl.graphs.saving import save_graph
from mlctl.runtime.machine import this_processor

SIDE = 224
MOST_MEMORY = 14_000_000_000


def samples(count: int) -> npt.NDArray[np.float32]:
    """Images [count, 3, 224, 224] that overlap in one small buffer, so that data take no memory."""
    buffer = np.random.default_rng(0).standard_normal(3 * SIDE * SIDE + 64 * count, dtype=np.float32)
    strides = tuple(4 * step for step in (64, SIDE * SIDE, SIDE, 1))
    return np.lib.stride_tricks.as_strided(buffer, (count, 3, SIDE, SIDE), strides)


def ours(graph: Path, count: int, method: str, into: Path, threads: int) -> None:
    """The steps of `mlctl quantize`, without its measurements."""
    options = StaticOptions(choose_scheme("auto", "auto", this_processor().instruction_sets))
    tensors = tensors_to_calibrate(weightless(graph), options)
    found = calibrate(
        graph,
        tensors,
        Rows((samples(count),), np.arange(count)),
        rule=RangeRule(method),  # type: ignore[arg-type]
        resources=Resources(threads, 1 << 30, into, into),
        tell=silent,
    )
    save_graph(StaticQuantizer(graph, found.ranges, options).quantized(), into)


def theirs(graph: Path, count: int, method: str, into: Path, threads: int) -> None:
    """`quantize_static` with the preset that is fast on x86; it always takes all cores."""
    logging.disable(logging.CRITICAL)
    images = iter(samples(count))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(images, None)
            return None if image is None else {"image": image[None]}

    chosen = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[method]
    quantize_static(
        graph,
        into / "theirs.onnx",
        Reader(),
        calibrate_method=chosen,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


@dataclass(frozen=True)
class Run:
    """Wall time, peak memory above what was there before, and why there is neither."""

    seconds: float = 0.0
    bytes: int = 0
    refusal: str | None = None


def measured(tool: str, graph: Path, count: int, method: str, threads: int) -> Run:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--run", tool, str(graph), str(count), method, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return Run(refusal=(done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1])
    return Run(**json.loads(done.stdout.strip().splitlines()[-1]))


def run(tool: str, graph: Path, count: int, method: str, threads: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        (ours if tool == "mlctl" else theirs)(graph, count, method, Path(folder), threads)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "bytes": peak() - before}))


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def export_resnet(into: Path) -> Path:
    """ResNet-18 with random weights, and statistics of its batch norms from noise."""
    import torch
    from networks import residual_network

    from mlctl.graphs.export import export

    torch.manual_seed(0)
    network = residual_network(18)
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, 3, SIDE, SIDE))
    example = (torch.randn(2, 3, SIDE, SIDE),)
    return export(
        network.eval(),
        example=example,
        input_names=("image",),
        output_name="logits",
        opset=20,
        metadata={},
        into=into,
    ).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graph = export_resnet(Path(folder))
        for method, count, rounds in (
            ("minmax", 100, asked.rounds),
            ("minmax", 1000, asked.rounds),
            ("entropy", 100, asked.rounds),
            ("entropy", 1000, 1),  # ONNX Runtime's keeps every activation, and is stopped at MOST_MEMORY
        ):
            report(method, count, in_turn(graph, count, method, (rounds, asked.threads)))


def in_turn(graph: Path, count: int, method: str, asked: tuple[int, int]) -> list[tuple[Run, Run]]:
    rounds, threads = asked
    return [
        (measured("mlctl", graph, count, method, threads), measured("onnxruntime", graph, count, method, threads))
        for _ in range(rounds)
    ]


def report(method: str, count: int, pairs: list[tuple[Run, Run]]) -> None:
    print(f"{method}, {count} samples")
    for name, runs in (("mlctl", [own for own, _ in pairs]), ("onnxruntime", [their for _, their in pairs])):
        seconds = ", ".join(f"{each.seconds:.1f} s" for each in runs)
        memory = ", ".join(f"{each.bytes / 1e6:.0f} MB" for each in runs)
        refused = next((each.refusal for each in runs if each.refusal), None)
        print(f"  {name:<12} " + (f"cannot: {refused}" if refused else f"{seconds}; {memory} above its libraries"))
    if len(pairs) > 1 and not any(their.refusal for _, their in pairs):
        print(f"  time         {Ratio.of([own.seconds for own, _ in pairs], [their.seconds for _, their in pairs])}")
        print(f"  memory       {Ratio.of([own.bytes for own, _ in pairs], [their.bytes for _, their in pairs])}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        tool, graph, count, method, threads = sys.argv[2:]
        run(tool, Path(graph), int(count), method, int(threads))
    else:
        main()
