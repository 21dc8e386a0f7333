"""One training as other tools do it, each with its defaults: a plain script, Lightning, Hugging Face's Trainer.

    python bench/peers.py plain|lightning|huggingface|mlctl [--job NAME] [--precision float32|bf16] [--times N]
                          [--data FOLDER]

With `--data` it trains one epoch on Fashion-MNIST from the IDX files there and prints the accuracy on the test images;
without, one epoch of a job's made-up data, `--times` as many. `mlctl` is its own loop, with precision `auto` whatever
is asked for. The last line on stdout is JSON: seconds of the training alone, samples.
"""

import argparse
import gzip
import importlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jobs import JOBS, RATE, SEED, Job
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.training.loop import fit

Trainer = Callable[[nn.Module, TensorDataset, int, str], None]


def plain(network: nn.Module, data: TensorDataset, batch: int, precision: str) -> None:
    """The loop of a tutorial."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    network.train()
    for inputs, targets in DataLoader(data, batch, shuffle=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = _loss(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def lightning(network: nn.Module, data: TensorDataset, batch: int, precision: str) -> None:
    """Lightning's Trainer."""
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            return _loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    trainer = lightning.Trainer(
        max_epochs=1, precision="bf16-mixed" if precision == "bf16" else "32-true", accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(data, batch, shuffle=True))


def huggingface(network: nn.Module, data: TensorDataset, batch: int, precision: str) -> None:
    """Hugging Face's Trainer."""
    from transformers import Trainer as HuggingFaceTrainer
    from transformers import TrainingArguments

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": _loss(self.network(inputs), labels)}

    def collated(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"inputs": torch.stack([each for each, _ in rows]), "labels": torch.stack([each for _, each in rows])}

    arguments = TrainingArguments(
        output_dir="unused", num_train_epochs=1, per_device_train_batch_size=batch, learning_rate=RATE, use_cpu=True,
        bf16=precision == "bf16", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    HuggingFaceTrainer(Wrapped(), arguments, data_collator=collated, train_dataset=data).train()


WAYS: dict[str, Trainer] = {"plain": plain, "lightning": lightning, "huggingface": huggingface}
LIBRARIES = {"lightning": ("lightning", "torch._dynamo"), "huggingface": ("transformers.trainer", "torch._dynamo")}
"""What each way would otherwise load while it is timed."""


def mlctl(job: Job) -> float:
    """Seconds of mlctl's own loop, which chooses its precision."""
    settings = FitSettings(epochs=1, batch_size=job.batch, optimizer=AdamWSettings(lr=RATE), keep_best=None)
    model, train, validation = job.complete(job.fresh_network()), job.train(), job.validation()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fit(
            model,
            train,
            validation,
            job.objective(),
            settings,
            seed=SEED,
            device=torch.device("cpu"),
            resume=Path(folder),
            tell=silent,
        )
        return time.perf_counter() - started


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.float().flatten(0, -2), targets.flatten())


def made_up(job: Job) -> TensorDataset:
    """A job's samples as tensors, pixels from 0 to 1."""
    samples = job.train()
    inputs = torch.from_numpy(samples.inputs[0])
    return TensorDataset(
        inputs.long() if job.is_text else inputs.float() / 255, torch.from_numpy(samples.targets).long()
    )


def fashion(folder: Path, part: str) -> TensorDataset:
    """Fashion-MNIST's `train` or `t10k` from its IDX files."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return TensorDataset(
        torch.from_numpy(pixels), torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(int))
    )


@torch.inference_mode()
def accuracy(network: nn.Module, data: TensorDataset) -> float:
    """The share of right answers."""
    network.eval()
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in DataLoader(data, 256))
    return right / len(data)


def main() -> None:
    """Train once and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=(*WAYS, "mlctl"))
    parser.add_argument("--job", choices=tuple(JOBS), default="cnn")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    job = replace(JOBS[asked.job], samples=JOBS[asked.job].samples * asked.times)
    if asked.way == "mlctl":
        print(json.dumps({"seconds": mlctl(job), "samples": job.samples}))
        return
    network = job.fresh_network()
    data = fashion(asked.data, "train") if asked.data else made_up(job)
    for library in LIBRARIES.get(asked.way, ()):
        importlib.import_module(library)
    started = time.perf_counter()
    WAYS[asked.way](network, data, job.batch, asked.precision)
    found: dict[str, Any] = {"seconds": time.perf_counter() - started, "samples": len(data)}
    if asked.data:
        found["accuracy"] = accuracy(network, fashion(asked.data, "t10k"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
