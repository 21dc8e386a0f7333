"""Exporting the digits cnn against torch's exporter alone, in turn within one process.

    python bench/export.py [--rounds N] [--json]

Both use the same exporter, and onnxscript's optimizer behind it. mlctl runs that pass by pass, each new graph in ONNX
Runtime against the untouched one; it also cleans the graph, checks it, and writes its metadata.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from ratios import Ratio
from torch import nn

from mlctl.graphs.export import export
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings

OPSET = 20


def by_hand(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """torch's own exporter, as its documentation uses it."""
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=(({0: torch.export.Dim("batch")},),),
        external_data=False,
        verbose=False,
    )


def measure(rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of mlctl's export and of torch's, for each round."""
    torch.manual_seed(0)
    network = build(CnnSettings(channels=(32, 64, 64)), ((1, 8, 8),), 10)
    model = CompleteModel(network, (InputScaling(16.0),), nn.Softmax(dim=1)).eval()
    example = torch.zeros((2, 1, 8, 8), dtype=torch.uint8)
    own, other = [], []
    for number in range(-1, rounds):
        start = time.perf_counter()
        export(
            model,
            example=(example,),
            input_names=("image",),
            output_name="probabilities",
            opset=OPSET,
            metadata={},
            into=folder,
        )
        middle = time.perf_counter()
        by_hand(model, example, folder / "by_hand.onnx")
        end = time.perf_counter()
        if number >= 0:
            own.append(middle - start)
            other.append(end - middle)
    return own, other


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        own, other = measure(asked.rounds, Path(folder))
    ratio = Ratio.of(own, other)
    if asked.json:
        print(json.dumps(asdict(ratio), indent=2))
        return
    print(f"mlctl {statistics.median(own):.2f} s, torch alone {statistics.median(other):.2f} s, {ratio}")


if __name__ == "__main__":
    main()
