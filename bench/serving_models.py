"""The graphs that serving is timed on: a small CNN in float32 and in integers, and MiniLM with its real weights.

    python bench/serving_models.py FOLDER

Neither's speed depends on what it has learnt, so the CNN has random weights. Each lies in a folder of its own, as
`model.onnx`; `tokenizer.json` lies beside those that read text.
"""

import argparse
import shutil
from pathlib import Path

import minilm
import numpy as np
import quantize
import torch
from torch import nn

from mlctl.graphs.export import export
from mlctl.graphs.metadata import GraphMetadata
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings

SEED = 7
SHAPE = (1, 28, 28)
CLASSES = 10
CHANNELS = (64, 112, 90)
"""156,723 numbers and 17 million multiply-adds a row: about 4,000 rows a second on one thread of a server."""
CALIBRATION_ROWS = 256
NAMES = ("cnn", "cnn-int8", "minilm", "minilm-int8")


def make(folder: Path) -> dict[str, Path]:
    """The graphs by name, made where they are not there yet."""
    found = {name: folder / name / "model.onnx" for name in NAMES}
    if not found["cnn"].exists():
        _cnn(folder)
    if not found["minilm"].exists():
        _encoder(folder)
    return found


def _cnn(folder: Path) -> None:
    torch.manual_seed(SEED)
    network = build(CnnSettings(channels=CHANNELS), (SHAPE,), CLASSES)
    model = CompleteModel(network, (InputScaling(255.0),), nn.Softmax(1)).eval()
    metadata = GraphMetadata(
        task="image-classification",
        labels=tuple(map(str, range(CLASSES))),
        preprocessing=[{"scale": 255.0, "mean": [], "deviation": []}],
        fingerprint="",
        network={},
        inputs=(),
    )
    into = folder / "cnn"
    into.mkdir(parents=True)
    exported = export(
        model, example=(torch.rand(2, *SHAPE),), input_names=("image",), output_name="probabilities", opset=20,
        metadata=metadata.to_properties(), into=into,
    )  # fmt: skip
    rows = np.random.default_rng(SEED).integers(0, 256, (CALIBRATION_ROWS, *SHAPE)).astype(np.float32)
    quantize.quantized(exported.path, (rows,), folder / "cnn-int8")


def _encoder(folder: Path) -> None:
    (folder / "minilm").mkdir(parents=True)
    minilm.quantized(minilm.export_encoder(folder / "minilm"), folder / "minilm-int8")
    for name in ("minilm", "minilm-int8"):
        shutil.copyfile(minilm.WEIGHTS / "tokenizer.json", folder / name / "tokenizer.json")


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, path in make(parser.parse_args().folder).items():
        print(f"{name:12} {path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
