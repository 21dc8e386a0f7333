"""What checkpoints cost: a training with one every few seconds against the same with none, in turn.

    python bench/checkpoints.py [--seconds S] [--epochs N] [--rounds N] [--json]

The GPT of 6 x 384 with AdamW: 130 MB of weights and moments a checkpoint. Every training must last several times
`--seconds` for the figure to mean anything.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from jobs import JOBS, RATE, SEED
from ratios import Ratio

from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.training.loop import fit

NEVER = 1e9


def seconds_of(epochs: int, between: float) -> float:
    """Seconds of a training with a checkpoint every `between` seconds."""
    job = JOBS["gpt"]
    settings = FitSettings(
        epochs=epochs,
        batch_size=job.batch,
        optimizer=AdamWSettings(lr=RATE),
        keep_best=None,
        checkpoint_seconds=between,
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fit(
            job.complete(job.fresh_network()),
            job.train(),
            job.validation(),
            job.objective(),
            settings,
            seed=SEED,
            device=torch.device("cpu"),
            resume=Path(folder),
            tell=silent,
        )
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    seconds_of(1, NEVER)
    own, other = [], []
    for number in range(asked.rounds):
        order = (asked.seconds, NEVER) if number % 2 else (NEVER, asked.seconds)
        found = {between: seconds_of(asked.epochs, between) for between in order}
        own.append(found[asked.seconds])
        other.append(found[NEVER])
    ratio = Ratio.of(own, other, reach=1.02)
    if asked.json:
        print(json.dumps(asdict(ratio)))
    else:
        print(f"a checkpoint every {asked.seconds:g} s, in {own[-1]:.0f} s of training: time {ratio}")


if __name__ == "__main__":
    main()
