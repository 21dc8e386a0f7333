"""From the start of the process to the third training step: `mlctl train` against a plain script with AdamW.

    python bench/first_steps.py [--rounds N] [--json]

Both train the digits CNN for three steps and end. `mlctl train` also reads and checks its recipe, validates, and writes
its artifact; its data are prepared before, and the script loads them from there.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ratios import Ratio, seconds

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "digits.yaml"
SCRIPT = """
import sys
import numpy, torch
from torch import nn

images = torch.from_numpy(numpy.load(sys.argv[1] + "/image.npy"))
labels = torch.from_numpy(numpy.load(sys.argv[1] + "/target.npy"))

def block(a, b, halves):
    return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), *([nn.MaxPool2d(2)] * halves)]

network = nn.Sequential(
    *block(1, 32, 1), *block(32, 64, 1), *block(64, 64, 0), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
for rows in torch.randperm(len(labels)).split(420):
    loss = nn.functional.cross_entropy(network(images[rows].float() / 16), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def measure(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of `mlctl train` and of the script, for each round."""
    own, other = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        asked = [str(RECIPE), "train.epochs=1", "train.batch_size=420", "--store", str(store), "--quiet"]
        mlctl = [sys.executable, "-m", "mlctl", "train", *asked]
        seconds([sys.executable, "-m", "mlctl", "prepare", *asked])
        prepared = next(store.glob("steps/*/prepare/train")).resolve()
        script = [sys.executable, "-c", SCRIPT, str(prepared)]
        seconds(mlctl)
        for number in range(rounds):
            order = [script, [*mlctl, "--force", "train"]]
            found = {len(each): seconds(each) for each in (order if number % 2 else reversed(order))}
            other.append(found[len(script)])
            own.append(found[len(mlctl) + 2])
    return own, other


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    ratio = Ratio.of(*measure(asked.rounds), reach=0.55)
    print(json.dumps(asdict(ratio)) if asked.json else f"mlctl train, three steps, over the plain script: {ratio}")


if __name__ == "__main__":
    main()
