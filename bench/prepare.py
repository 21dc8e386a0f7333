"""Preparing a table against pyarrow only reading it, in turn within one process.

    python bench/prepare.py [--megabytes N] [--rounds N] [--json]

`prepare` parses, checks, splits, measures and writes; pyarrow parses into memory and forgets.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pyarrow import csv
from ratios import Ratio

from mlctl.data.preparation import prepare
from mlctl.data.reading import Number, Numbers, Reading
from mlctl.events import silent
from mlctl.recipe.prepare import FeatureSettings, RegressionData

COLUMNS = 20


def write_table(path: Path, megabytes: float) -> None:
    """A table of about that size: 20 columns of six digits, and a target."""
    generator = np.random.default_rng(0)
    names = ",".join([*(f"x{number}" for number in range(COLUMNS)), "y"])
    with path.open("w") as stream:
        stream.write(names + "\n")
        while stream.tell() < megabytes * 1e6:
            np.savetxt(stream, generator.normal(size=(2000, COLUMNS + 1)), fmt="%.6f", delimiter=",")


def measure(path: Path, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of `prepare` and of pyarrow, for each round."""
    reading = Reading("regression", (Numbers("features", ("x*",), standardize="first-axis"),), Number("y", True))
    settings = RegressionData(
        task="regression", source=(path.name,), features=FeatureSettings(columns=("x*",)), target="y"
    )
    own, other = [], []
    for number in range(-1, rounds):
        into = folder / str(number)
        into.mkdir()
        start = time.perf_counter()
        prepare(reading, settings, path.parent, into, 0, silent)
        middle = time.perf_counter()
        csv.read_csv(path)
        end = time.perf_counter()
        if number >= 0:
            own.append(middle - start)
            other.append(end - middle)
    return own, other


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_table(path, asked.megabytes)
        size = path.stat().st_size / 1e6
        own, other = measure(path, Path(folder), asked.rounds)
    ratio = Ratio.of(other, own)
    if asked.json:
        print(json.dumps(asdict(ratio), indent=2))
        return
    rates = size / statistics.median(own), size / statistics.median(other)
    print(f"{size:.0f} MB: prepare {rates[0]:.0f} MB/s, pyarrow only reading {rates[1]:.0f} MB/s, speed {ratio}")


if __name__ == "__main__":
    main()
