"""Static int8: how fast residual networks become, and what classifiers lose.

Latency: ResNet-18 and ResNet-50 with random weights, one image, one thread: the float graph, mlctl's integers, and
those of `quantize_static` with the presets that people use, all in turn. Accuracy: mlctl's default settings on a narrow
ResNet-18 that learns Fashion-MNIST here.
"""

import argparse
import gzip
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from networks import residual_network
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from ratios import Ratio
from torch import nn
from torch.nn import functional

from mlctl.compression.quantization.calibration import Resources, Rows, calibrate
from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.events import silent
from mlctl.graphs.export import export
from mlctl.graphs.outline import weightless
from mlctl.graphs.saving import save_graph
from mlctl.metrics.paired import rate_difference_interval
from mlctl.runtime.answers import Arrays, answer
from mlctl.runtime.latency import measure_latency
from mlctl.runtime.machine import this_processor
from mlctl.runtime.session import OnnxSession

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Debian's package of that name."""
SAMPLES = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for depth in (18, 50):
        with tempfile.TemporaryDirectory() as folder:
            latency(depth, asked.rounds, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        fashion(asked.epochs, Path(folder))


def quantized(graph: Path, rows: Arrays, into: Path) -> Path:
    """What `mlctl quantize` makes of the graph with its default settings."""
    options = StaticOptions(choose_scheme("auto", "auto", this_processor().instruction_sets))
    into.mkdir()
    found = calibrate(
        graph,
        tensors_to_calibrate(weightless(graph), options),
        Rows(rows, np.arange(min(SAMPLES, len(rows[0])))),
        rule=RangeRule("mse"),
        resources=Resources(torch.get_num_threads(), 1 << 30, into, into),
        tell=silent,
    )
    return save_graph(StaticQuantizer(graph, found.ranges, options).quantized(), into)


def latency(depth: int, rounds: int, folder: Path) -> None:
    torch.manual_seed(0)
    network = residual_network(depth)
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(8, 3, 224, 224))
    graph = exported(network, torch.randn(2, 3, 224, 224), folder)
    rows = (np.random.default_rng(0).standard_normal((8, 3, 224, 224), dtype=np.float32),)
    paths = {"mlctl": quantized(graph, rows, folder / "own"), **dict(presets(graph, rows[0], folder))}
    models = [("float", stock(graph)), *((name, OnnxSession(path, threads=1)) for name, path in paths.items())]
    seconds = measure_latency(models, rows, batches=(1,), rounds=rounds, warmup=5)[:, 0]
    print(f"ResNet-{depth}, one image, one thread, {rounds} rounds: times as fast as float32 in ONNX Runtime")
    for (name, _), own in list(zip(models, seconds, strict=True))[1:]:
        print(f"  {name:<30} {Ratio.of(list(seconds[0]), list(own))}")
    best = min(seconds[2:], key=lambda each: float(np.median(each)))
    print(f"  {'mlctl against the best preset':<30} {Ratio.of(list(best), list(seconds[1]))}")


def stock(graph: Path) -> Any:
    """ONNX Runtime as it comes, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda rows: session.run(None, dict(zip(names, rows, strict=True)))[0]


def presets(graph: Path, images: npt.NDArray[np.float32], folder: Path) -> Iterator[tuple[str, Path]]:
    """`quantize_static` as it comes, and what its documentation advises for x86."""
    unsigned, signed = QuantType.QUInt8, QuantType.QInt8
    for name, activations, weights, options in (
        ("s8s8 QDQ (default)", signed, signed, {}),
        ("u8s8 QDQ per channel", unsigned, signed, {"per_channel": True}),
        ("u8s8 QOperator per channel", unsigned, signed, {"per_channel": True, "quant_format": QuantFormat.QOperator}),
        ("u8u8 QDQ", unsigned, QuantType.QUInt8, {}),
    ):
        path = folder / f"{name.replace(' ', '-')}.onnx"
        quantize_static(graph, path, Reader(images), activation_type=activations, weight_type=weights, **options)
        yield name, path


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Images one by one."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def exported(network: nn.Module, example: torch.Tensor, into: Path) -> Path:
    found = export(
        network.eval(),
        example=(example,),
        input_names=("image",),
        output_name="logits",
        opset=20,
        metadata={},
        into=into,
    )
    return found.path


@dataclass(frozen=True)
class Images:
    """Images float32 [N, 1, 28, 28] from 0 to 1, and their classes int64 [N]."""

    images: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]

    @classmethod
    def read(cls, part: str) -> "Images":
        images = np.frombuffer(_unpacked(f"{part}-images-idx3-ubyte"), np.uint8, offset=16)
        classes = np.frombuffer(_unpacked(f"{part}-labels-idx1-ubyte"), np.uint8, offset=8)
        scaled = (images.reshape(-1, 1, 28, 28) / np.float32(255)).astype(np.float32)
        return cls(scaled, classes.astype(np.int64))


def _unpacked(name: str) -> bytes:
    plain = FASHION / name
    return plain.read_bytes() if plain.exists() else gzip.decompress((FASHION / f"{name}.gz").read_bytes())


def fashion(epochs: int, folder: Path) -> None:
    train, test = Images.read("train"), Images.read("t10k")
    network = trained(train, epochs)
    graph = exported(network, torch.from_numpy(train.images[:2].copy()), folder)
    integers = quantized(graph, (train.images,), folder / "own")
    right = [
        answer(OnnxSession(path, threads=2), (test.images,), 256).argmax(axis=1) == test.classes
        for path in (graph, integers)
    ]
    interval = rate_difference_interval(right[0], right[1], 0.95)
    drop = 100 * float(right[0].mean() - right[1].mean())
    print(f"Fashion-MNIST, narrow ResNet-18, {epochs} epochs, {len(test.classes)} test images")
    print(f"  float32 {right[0].mean():.4f}, int8 {right[1].mean():.4f}")
    print(f"  drop {drop:+.2f} points [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}], to reach 0.3")


def trained(data: Images, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    network = residual_network(18, classes=10, channels=1, width=16, is_small=True)
    images, classes = torch.from_numpy(data.images), torch.from_numpy(data.classes)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(classes) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    network.train()
    for step, rows in enumerate(torch.randperm(len(classes) * epochs)[: steps * 128].view(steps, 128) % len(classes)):
        loss = functional.cross_entropy(network(images[rows]), classes[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
    return network


if __name__ == "__main__":
    main()
