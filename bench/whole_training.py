"""The whole job: one epoch of Fashion-MNIST and the test images' accuracy, from IDX files to the figure.

    python bench/whole_training.py [--data FOLDER] [--peers PYTHON] [--rounds N] [--json]

`mlctl eval` in a fresh store against `bench/peers.py`'s ways with their defaults, each a process of its own, in turn.
`--peers` is a Python that has mlctl, lightning, transformers and accelerate; without it the plain script stands alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from ratios import Ratio

FASHION = Path("/usr/share/datasets/fashion-mnist")
RECIPE = """\
mlctl: 1
name: whole
prepare:
  task: image-classification
  split: {{files: {{train: "{data}/train-*", test: "{data}/t10k-*"}}, validation: 0.02}}
  image: {{shape: [1, 28, 28]}}
train: {{model: {{arch: cnn, channels: [32, 64, 128]}}, epochs: 1, batch_size: 128}}
eval: {{metrics: [accuracy], latency: null}}
"""


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds of a command that must succeed, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, done.stdout


def own(data: Path) -> tuple[float, float]:
    """Seconds and accuracy of mlctl."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "whole.yaml"
        recipe.write_text(RECIPE.format(data=data))
        seconds, said = timed([sys.executable, "-m", "mlctl", "eval", str(recipe), "--json"])
    figures = json.loads(said)["steps"][-1]["figures"]
    return seconds, next(each["value"] for each in figures if each["figure"] == "accuracy")


def peer(python: str, way: str, data: Path) -> tuple[float, float]:
    """Seconds and accuracy of one of the others."""
    script = str(Path(__file__).with_name("peers.py"))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [python, script, way, "--data", str(data)], check=True, capture_output=True, text=True, cwd=folder
        )
    return time.perf_counter() - started, json.loads(done.stdout.splitlines()[-1])["accuracy"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FASHION)
    parser.add_argument("--peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    ways = ("plain", "lightning", "huggingface") if asked.peers else ("plain",)
    found: dict[str, list[tuple[float, float]]] = {"mlctl": [], **{way: [] for way in ways}}
    for _ in range(asked.rounds):
        found["mlctl"].append(own(asked.data))
        for way in ways:
            found[way].append(peer(asked.peers or sys.executable, way, asked.data))
    seconds = {name: [each for each, _ in rounds] for name, rounds in found.items()}
    best = min(ways, key=lambda way: sorted(seconds[way])[asked.rounds // 2])
    ratio = Ratio.of(seconds["mlctl"], seconds[best], reach=0.35)
    if asked.json:
        print(json.dumps({"seconds": seconds, "best": best, "ratio": asdict(ratio)}))
        return
    for name, rounds in found.items():
        times = ", ".join(f"{each:.1f}" for each, _ in rounds)
        print(f"{name:<12} {times} s, accuracy {', '.join(f'{each:.4f}' for _, each in rounds)}")
    print(f"mlctl over {best}: {ratio}")


if __name__ == "__main__":
    main()
