"""What smaller models are worth, over seeds, each through the command and measured on the digits' test rows.

    python bench/smaller.py chain|distill|aware [--seeds N] [--threads N] [--json]

`chain` prunes, distils and quantizes as `recipes/digits.yaml` does, against its float parent as a graph. `distill` lets
the same student learn alone and from a teacher. `aware` quantizes the same graph after training and within it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "recipes" / "data" / "digits.csv.gz"
HEAD = """\
mlctl: 1
name: smaller
prepare:
  task: image-classification
  source: {data}
  image: {{columns: "pixel_*", shape: [1, 8, 8], scale: 16}}
  label: digit
  split: {{train: {train}, validation: 0.15, test: {test}, stratify: true}}
train:
  model: {{arch: cnn, channels: [32, 64, 64], dropout: 0.1}}
  epochs: 30
  batch_size: 128
  optimizer: {{name: adamw, lr: 5.0e-3, weight_decay: 0.01}}
  schedule: {{name: cosine, warmup: 0.1}}
  precision: float32
"""
STUDENT = "model: {arch: cnn, channels: [8, 16]}, epochs: 200, optimizer: {name: adamw, lr: 5.0e-3}, precision: float32"
STEPS = {
    "chain": """\
prune:
  ratio: 0.5
  round_to: 16
  finetune: {epochs: 5, optimizer: {name: adamw, lr: 2.0e-3}, precision: float32}
distill:
  teacher: train
  from: prune
  epochs: 60
  optimizer: {name: adamw, lr: 5.0e-3}
  schedule: {name: cosine}
  precision: float32
export.parent: {from: train}
export: {from: distill}
quantize: {method: static}
""",
    "distill": f"train.alone: {{{STUDENT}, schedule: {{name: cosine}}}}\n"
    f"distill: {{teacher: train, {STUDENT}, schedule: {{name: cosine}}}}\n",
    "aware": "export: {}\nquantize: {method: static}\nquantize.aware: {from: export, method: qat}\n",
}
PAIRS = {
    "chain": ("export.parent", "quantize"),
    "distill": ("train.alone", "distill"),
    "aware": ("quantize", "quantize.aware"),
}
EVAL = "eval: {split: test, metrics: [accuracy], latency: {batch: [1, 32], rounds: 300, threads: 1}}\n"


@dataclass(frozen=True)
class Pair:
    """Figures of one seed: of the model that is compared with, and of the one that is made smaller or learns better."""

    seed: int
    accuracies: tuple[float, float]
    bytes: float
    """The second's over the first's."""
    latencies: tuple[float, float]
    """The second's over the first's, on one row and on 32."""


def pair(what: str, seed: int, threads: int) -> Pair:
    """Run the recipe with a seed in a store of its own."""
    test = 0.15 if what == "chain" else 0.4
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "smaller.yaml"
        recipe.write_text(HEAD.format(data=DATA, train=0.85 - test, test=test) + STEPS[what] + EVAL)
        command = [sys.executable, "-m", "mlctl", "run", str(recipe), f"seed={seed}", "--json", "--quiet"]
        done = subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True, text=True)
        return read(json.loads(done.stdout), PAIRS[what], seed)


def read(verdict: Any, names: tuple[str, str], seed: int) -> Pair:
    """The pair out of a verdict."""
    (step,) = (each for each in verdict["steps"] if each["step"] == "eval")
    found = {(each["model"], each["figure"]): float(each["value"]) for each in step["figures"]}
    first, second = names
    return Pair(
        seed,
        (found[first, "accuracy"], found[second, "accuracy"]),
        found[second, "bytes"] / found[first, "bytes"],
        (
            found[second, "p50_batch_1"] / found[first, "p50_batch_1"],
            found[second, "p50_batch_32"] / found[first, "p50_batch_32"],
        ),
    )


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Their mean, and its 95 % interval by Student's distribution over the seeds."""
    from scipy.stats import t

    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, float("-inf"), float("inf")
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean, mean - half, mean + half


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(STEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    pairs = [pair(asked.what, seed, asked.threads) for seed in range(1, asked.seeds + 1)]
    mean, low, high = interval([each.accuracies[1] - each.accuracies[0] for each in pairs])
    if asked.json:
        found = {"pairs": [asdict(each) for each in pairs], "difference": mean, "low": low, "high": high}
        print(json.dumps(found, indent=2))
        return
    for each in pairs:
        (before, after), (one, many) = each.accuracies, each.latencies
        sizes = f"bytes x {each.bytes:.3f}, latency x {one:.2f} on one row, x {many:.2f} on 32"
        print(f"seed {each.seed}: accuracy {before:.4f} → {after:.4f}, {sizes}")
    first, second = PAIRS[asked.what]
    print(f"{second} less {first}: {mean:+.4f} [{low:+.4f}, {high:+.4f}] over {len(pairs)} seeds")


if __name__ == "__main__":
    main()
