"""From the start of a process to the third training step, and to its end: `mlctl train` and a plain script.

    python bench/first_steps.py [--rounds N] [--json]

Both train the digits CNN for three steps and end. `mlctl train` also reads and checks its recipe before, and afterwards
validates and writes its artifact; its data are prepared before, and the script loads them from there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ratios import Ratio

REACH = 0.55
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "digits.yaml"
SCRIPT = """
import sys, time
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
open(sys.argv[2], "w").write(str(time.monotonic()))
"""
WATCHED = """
import sys, time
from importlib.machinery import PathFinder

def watch(module):
    learn, steps = module.Learner.learn, []
    def watched(*arguments):
        found = learn(*arguments)
        steps.append(time.monotonic())
        if len(steps) == 3:
            open(path, "w").write(str(steps[-1]))
        return found
    module.Learner.learn = watched

class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name == "mlctl.training.learner":
            spec = PathFinder.find_spec(name, path, target)
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (execute(module), watch(module))
            return spec

path = sys.argv.pop()
sys.meta_path.insert(0, Finder)
from mlctl.cli.main import main
main()
"""
"""`mlctl`, which says in the file that its last argument names when its third step was done."""


@dataclass(frozen=True)
class Lasted:
    """Seconds from a process's start to its third step, and to its end."""

    steps: float
    whole: float


def lasted(command: list[str], path: Path) -> Lasted:
    """What a command takes that writes into `path` when its third step was done."""
    start = time.monotonic()
    subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Lasted(float(path.read_text()) - start, time.monotonic() - start)


def measure(rounds: int) -> tuple[Ratio, Ratio]:
    """`mlctl train` over the script, to the third step and to the end."""
    own, other = [], []
    with tempfile.TemporaryDirectory() as folder:
        store, path = Path(folder) / "store", Path(folder) / "third_step"
        asked = [str(RECIPE), "train.epochs=1", "train.batch_size=420", "--store", str(store), "--quiet"]
        prepare = [sys.executable, "-m", "mlctl", "prepare", *asked]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        script = [sys.executable, "-c", SCRIPT, str(next(store.glob("steps/*/prepare/train")).resolve())]
        mlctl = [sys.executable, "-c", WATCHED, "train", *asked, "--force", "train"]
        for number in range(-1, rounds):
            order = (script, mlctl) if number % 2 else (mlctl, script)
            found = [lasted(each, path) for each in order]
            if number >= 0:
                own.append(found[order.index(mlctl)])
                other.append(found[order.index(script)])
    return (
        Ratio.of([each.steps for each in own], [each.steps for each in other], REACH),
        Ratio.of([each.whole for each in own], [each.whole for each in other]),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    steps, whole = measure(asked.rounds)
    if asked.json:
        print(json.dumps({"steps": asdict(steps), "whole": asdict(whole)}))
        return
    print(f"mlctl train over the plain script, to the third step: {steps}")
    print(f"and to the end of the process: {whole}")


if __name__ == "__main__":
    main()
