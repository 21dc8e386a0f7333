"""Structured pruning beside Torch-Pruning: the step itself, and what is left of a network's accuracy.

    python bench/pruning.py step [--rounds N] [--threads N] [--json]
    python bench/pruning.py accuracy [--epochs N] [--finetune N] [--rows N] [--json]

`torch-pruning` is to be installed in the environment that runs this. `step` cuts half of the channels of a ResNet-50
at 224 x 224 in turn: from the network to the smaller network, dependencies, importance and cut included. `accuracy`
trains a ResNet-18 with the CIFAR stem on Fashion-MNIST (Debian's dataset-fashion-mnist), removes half of its
multiply-adds both ways by the lengths of weights, lets both learn again alike, and measures accuracy on the test rows
and the latency of the exported graphs in turn.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch_pruning
from fashion import fashion_mnist
from ratios import Ratio
from torch import nn

from mlctl.compression.pruning.batch_statistics import take_batch_statistics
from mlctl.compression.pruning.dependencies import dependencies, structure_of
from mlctl.compression.pruning.importance import importance
from mlctl.compression.pruning.selection import Rules, select, target, whole
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.events import silent
from mlctl.graphs.export import export
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.structure import restructured
from mlctl.models.table import build
from mlctl.recipe.networks import ResNetSettings
from mlctl.recipe.optimization import AdamWSettings, CosineSchedule
from mlctl.recipe.prune import StructuredPruning
from mlctl.recipe.train import FitSettings
from mlctl.runtime.latency import measure_latency, summary
from mlctl.runtime.session import OnnxSession
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Batches, Samples
from mlctl.training.loop import fit
from mlctl.training.validation import Validation

SEED = 7
CLASSES = 10
SAMPLES = 512
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Left:
    """A network after pruning: multiply-adds of its parent's, accuracy on the test rows, latency of its parent's."""

    multiply_adds: float
    as_cut: float
    accuracy: float
    latency: float


def cut_here(model: CompleteModel, example: torch.Tensor, settings: StructuredPruning) -> nn.Module:
    """The network cut in place as `mlctl prune` does it."""
    network = model.network
    found = dependencies(network, model.preprocess(example))
    costs = UnitCosts(found, network)
    scores = importance(settings.importance, model, found, CrossEntropy()).scores
    wanted = target(settings, whole(costs))
    assert wanted is not None
    selection = select(costs, scores, wanted, Rules(settings.scope, settings.round_to))
    return restructured(network, structure_of(network, found, selection.kept))


def cut_there(model: CompleteModel, example: torch.Tensor, *, ratio: float, head: str = "head") -> nn.Module:
    """The network cut in place by Torch-Pruning's magnitude pruner, every layer by the same ratio."""
    network = model.network
    pruner = torch_pruning.pruner.MagnitudePruner(
        network,
        model.preprocess(example),
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network.get_submodule(head)],
    )
    pruner.step()
    return network


def multiply_adds(model: CompleteModel, example: torch.Tensor) -> int:
    """Of one sample, as mlctl counts them."""
    return UnitCosts(dependencies(model.network, model.preprocess(example)), model.network).cost().multiply_adds


def step(rounds: int) -> dict[str, object]:
    """Seconds of one cut each way, in turn."""
    torch.manual_seed(SEED)
    settings = ResNetSettings(depth=50, stem="imagenet")
    example = torch.rand(1, 3, 224, 224)
    model = CompleteModel(build(settings, ((3, 224, 224),), 1000), (InputScaling(),), nn.Identity()).eval()
    asked = StructuredPruning(ratio=0.5, scope="layer")
    ways: dict[str, Callable[[CompleteModel], nn.Module]] = {
        "mlctl": lambda each: cut_here(each, example, asked),
        "torch-pruning": lambda each: cut_there(each, example, ratio=0.5),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, rounds):
        for name, cut in ways.items():
            fresh = copy.deepcopy(model)
            started = time.perf_counter()
            cut(fresh)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    ratio = Ratio.of(seconds["mlctl"], seconds["torch-pruning"], 1.0)
    return {"seconds": {name: sorted(each)[len(each) // 2] for name, each in seconds.items()}, "ratio": ratio}


def accuracy(epochs: int, finetune: int, rows: int) -> dict[str, object]:
    """What both ways leave of one trained network."""
    train, validation, test = fashion_mnist(rows)
    torch.manual_seed(SEED)
    network = build(ResNetSettings(depth=18), ((1, 28, 28),), CLASSES)
    parent = CompleteModel(network, (InputScaling(255.0),), nn.Softmax(1))
    learn(parent, train, validation, epochs, 2e-3)
    example = torch.from_numpy(np.array(test.inputs[0][:2]))
    before = multiply_adds(parent.cpu().eval(), example)
    here, there = copy.deepcopy(parent), halved_there(parent, example, before)
    cut_here(here, example, StructuredPruning(flops=0.5, round_to=16))
    found = {}
    for name, cut in (("mlctl", here), ("torch-pruning", there)):
        chosen = train.chosen(np.arange(SAMPLES))
        take_batch_statistics(cut, Batches(chosen, 128, CPU).in_order())
        as_cut = test_accuracy(cut, test)
        share = multiply_adds(cut.cpu().eval(), example) / before
        learn(cut, train, validation, finetune, 1e-3)
        found[name] = Left(share, as_cut, test_accuracy(cut, test), latency_share(parent, cut, test))
    return {"parent": test_accuracy(parent, test), **found}


def halved_there(parent: CompleteModel, example: torch.Tensor, before: int) -> CompleteModel:
    """The parent cut by the smallest ratio, in hundredths, that leaves half of its multiply-adds at most."""
    for hundredths in range(20, 60):
        cut = copy.deepcopy(parent)
        cut_there(cut, example, ratio=hundredths / 100)
        if multiply_adds(cut, example) <= before / 2:
            return cut
    raise AssertionError("no ratio leaves half")


def learn(model: CompleteModel, train: Samples, validation: Samples, epochs: int, rate: float) -> None:
    """Train in place, with settings that are the same both ways."""
    settings = FitSettings(
        epochs=epochs, batch_size=128, optimizer=AdamWSettings(lr=rate), schedule=CosineSchedule(), keep_best=None
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model, train, validation, CrossEntropy(), settings,
            seed=SEED, device=CPU, resume=Path(folder), tell=silent,
        )  # fmt: skip


def test_accuracy(model: CompleteModel, test: Samples) -> float:
    """The share of right answers."""
    return Validation(test, CrossEntropy(), 256, CPU).figures(model)[1]


def latency_share(parent: CompleteModel, cut: CompleteModel, test: Samples) -> float:
    """Median time of one row in ONNX Runtime on one thread, of the parent's."""
    sessions = [(name, session_of(model, test)) for name, model in (("parent", parent), ("cut", cut))]
    seconds = measure_latency(sessions, test.inputs, batches=(1,), rounds=300, warmup=20)
    return summary(seconds[1][0]).p50 / summary(seconds[0][0]).p50


def session_of(model: CompleteModel, test: Samples) -> OnnxSession:
    """The model as a graph."""
    example = (torch.from_numpy(np.array(test.inputs[0][:2])),)
    with tempfile.TemporaryDirectory() as folder:
        exported = export(
            model.cpu().eval(), example=example, input_names=("image",), output_name="probabilities", opset=20,
            metadata={}, into=Path(folder),
        )  # fmt: skip
        return OnnxSession(exported.path, threads=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "accuracy"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--finetune", type=int, default=1)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = step(asked.rounds) if asked.what == "step" else accuracy(asked.epochs, asked.finetune, asked.rows)
    if asked.json:
        print(json.dumps(found, default=asdict))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
