"""`runtime: auto` with OpenVINO beside float32 in ONNX Runtime as it comes: ResNet-18 and MiniLM, one thread.

OpenVINO gains where the processor has AMX; `mlctl doctor` says whether this one does.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from minilm import encoded, export_encoder, sentences
from networks import residual_network
from quantize import exported, stock
from ratios import Ratio

from mlctl.runtime.answers import Arrays
from mlctl.runtime.choice import alike, choose_runtime
from mlctl.runtime.latency import measure_latency
from mlctl.runtime.machine import this_processor
from mlctl.runtime.opening import open_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    print(" ".join(this_processor().instruction_sets))
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        network = residual_network(18)
        with torch.no_grad():
            for _ in range(4):
                network(torch.randn(8, 3, 224, 224))
        graph = exported(network, torch.randn(2, 3, 224, 224), Path(folder))
        images = np.random.default_rng(0).standard_normal((16, 3, 224, 224), dtype=np.float32)
        report("ResNet-18", graph, (images,), (1, 8), asked.rounds)
    with tempfile.TemporaryDirectory() as folder:
        graph = export_encoder(Path(folder))
        report("MiniLM", graph, encoded(sentences()[:64]), (1, 32), asked.rounds)


def report(name: str, graph: Path, rows: Arrays, batches: tuple[int, ...], rounds: int) -> None:
    reference = stock(graph)
    openvino = open_graph(graph, runtime="openvino", threads=1)
    likeness = alike(reference(rows), openvino(rows), "none")
    choice = choose_runtime(graph, rows, threads=1, decision="none", batches=batches)
    chosen = open_graph(graph, runtime=choice.runtime, threads=1)
    print(f"{name}: cosine of OpenVINO's answers ({openvino.detail}) {likeness.cosine:.6f}, to reach 0.9999")
    print(f"  auto: {choice.runtime}; {choice.why}")
    models = [("onnxruntime", reference), ("openvino", openvino), ("auto", chosen)]
    seconds = measure_latency(models, rows, batches=batches, rounds=rounds, warmup=3)
    for column, size in enumerate(batches):
        for (label, _), own in list(zip(models, seconds, strict=True))[1:]:
            ratio = Ratio.of(list(seconds[0][column]), list(own[column]), 4.0 if label == "auto" else None)
            print(f"  batch {size}: {label} {ratio}")


if __name__ == "__main__":
    main()
