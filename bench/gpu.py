"""Training on a GPU: a GPT of 124M parameters in bfloat16 against the chip's own matrix rate, and a compiled ResNet-18
against a compiled hand-written loop.

    python bench/gpu.py [--rounds N] [--json]

Seconds are those of a long training less those of a short one, so that start and compilation fall out of both ways.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jobs import DECAY, RATE, SEED, Job
from ratios import Ratio
from torch import nn
from torch.nn import functional

from mlctl.events import silent
from mlctl.recipe.networks import ResNetSettings, TransformerSettings
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.training.loop import fit

GPU = torch.device("cuda", 0)
GPT = Job(TransformerSettings(width=768, layers=12, heads=12), (1024,), 50_304, 16, 16 * 40)
RESNET = Job(ResNetSettings(depth=18), (3, 32, 32), 10, 512, 512 * 100)
SHORTER = 4
LEAST_UTILISATION, LEAST_RATIO = 0.45, 0.97
SIDE, PRODUCTS = 8192, 50


def with_fit(job: Job) -> float:
    """Seconds of `mlctl train`'s loop."""
    optimizer = AdamWSettings(lr=RATE, weight_decay=DECAY)
    settings = FitSettings(
        epochs=1, batch_size=job.batch, optimizer=optimizer, precision="bfloat16", compile=True, keep_best=None
    )
    train, validation = job.train(), job.validation()
    model = job.complete(job.fresh_network())
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fit(
            model,
            train,
            validation,
            job.objective(),
            settings,
            seed=SEED,
            device=GPU,
            resume=Path(folder),
            tell=silent,
        )
        return time.perf_counter() - started


def by_hand(job: Job) -> float:
    """Seconds of a loop that a careful person would write: resident images, channels last, fused, compiled."""
    samples = job.train()
    network = job.fresh_network().to(GPU, memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = time.perf_counter()
    compiled = torch.compile(network)
    images, targets = torch.from_numpy(samples.inputs[0]).to(GPU), torch.from_numpy(samples.targets).to(GPU)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    network.train()
    for rows in torch.randperm(len(targets), device=GPU).split(job.batch):  # type: ignore[no-untyped-call]
        pixels = images[rows].to(memory_format=torch.channels_last).float().div_(255)
        with torch.autocast("cuda", torch.bfloat16):
            loss = functional.cross_entropy(compiled(pixels), targets[rows])  # type: ignore[no-untyped-call]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def samples_per_second(way: Callable[[Job], float], job: Job) -> float:
    """The rate of a job's last three quarters."""
    few = job.samples // SHORTER
    short, long = way(replace(job, samples=few)), way(job)
    return (job.samples - few) / (long - short)


def matrix_rate() -> float:
    """Floating-point operations per second of bfloat16 products of 8192 x 8192."""
    left, right = (torch.randn(SIDE, SIDE, device=GPU, dtype=torch.bfloat16) for _ in range(2))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(PRODUCTS + 1)]  # type: ignore[no-untyped-call]
    for event in events:
        event.record()
        left @ right
    torch.cuda.synchronize()
    between = [first.elapsed_time(second) for first, second in itertools.pairwise(events)]
    return float(2 * SIDE**3 / (statistics.median(between) / 1e3))


def operations_per_token(network: nn.Module, settings: TransformerSettings, context: int) -> float:
    """Of forward and backward: 6 a weight and 12 L T D of attention (Chowdhery et al. 2022, appendix B)."""
    weights = sum(each.numel() for each in network.parameters())
    return 6 * weights + 12 * settings.layers * context * settings.width


@dataclass(frozen=True)
class Measured:
    """What a GPU was seen to do."""

    device: str
    matrix_teraflops: float
    tokens_per_second: float
    utilisation: Ratio
    resnet: Ratio


def measure(rounds: int) -> Measured:
    """Both jobs, each way in turn."""
    if not isinstance(GPT.network, TransformerSettings):
        raise TypeError(f"{GPT.network.arch} is no transformer")
    operations = operations_per_token(GPT.fresh_network(), GPT.network, GPT.shape[0])
    rates, tokens, own, other = [], [], [], []
    for _ in range(rounds):
        rates.append(matrix_rate())
        tokens.append(samples_per_second(with_fit, GPT) * GPT.shape[0])
        own.append(samples_per_second(with_fit, RESNET))
        other.append(samples_per_second(by_hand, RESNET))
    return Measured(
        torch.cuda.get_device_name(GPU),
        statistics.median(rates) / 1e12,
        statistics.median(tokens),
        Ratio.of([each * operations for each in tokens], rates, LEAST_UTILISATION),
        Ratio.of(own, other, LEAST_RATIO),
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here: nothing to measure")
    found = measure(asked.rounds)
    if asked.json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.device}: {found.matrix_teraflops:.0f} TFLOP/s in bfloat16 products")
    print(f"GPT 12 x 768, context 1024: {found.tokens_per_second:,.0f} tokens/s, utilisation {found.utilisation}")
    print(f"ResNet-18 for CIFAR over a compiled loop by hand: {found.resnet}")


if __name__ == "__main__":
    main()
