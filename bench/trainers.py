"""Throughput of training with precision `auto` against Lightning and Hugging Face's Trainer, both told to use bfloat16.

    python bench/trainers.py --peers PYTHON [--job cnn|resnet|gpt]... [--times N] [--rounds N] [--json]

Every training is a process of its own, in turn; the time to load libraries is not counted. `--peers` is a Python that
has mlctl, lightning, transformers and accelerate; `--times` makes a job's data so many times as large.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

from ratios import Ratio

REACH = {"cnn": 1.7, "resnet": 1.2, "gpt": 1.1}
WAYS = ("mlctl", "lightning", "huggingface")


def rate(python: str, way: str, job: str, times: int) -> float:
    """Samples per second of one training."""
    script = str(Path(__file__).with_name("peers.py"))
    command = [python, script, way, "--job", job, "--precision", "bf16", "--times", str(times)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["samples"] / found["seconds"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--job", choices=tuple(REACH), action="append")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for job in asked.job or REACH:
        rounds = [[rate(asked.peers, way, job, asked.times) for way in WAYS] for _ in range(asked.rounds)]
        own, *others = (list(rates) for rates in zip(*rounds, strict=True))
        for way, rates in zip(WAYS[1:], others, strict=True):
            ratio = Ratio.of(own, rates, REACH[job])
            print(
                json.dumps({"job": job, "peer": way, **asdict(ratio)}) if asked.json else f"{job} over {way}: {ratio}"
            )


if __name__ == "__main__":
    main()
