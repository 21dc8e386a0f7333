"""The whole first `mlctl run` of `digits.yaml`, from rows to integers, against a plain script that does it by hand.

    python bench/run.py [--rounds N] [--json]

Both start as fresh processes, in turn; mlctl with an empty store every time.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ratios import Ratio, seconds

ROOT = Path(__file__).parents[1]
REACH = 1.25


def measure(rounds: int, folder: Path) -> list[tuple[float, float]]:
    """Wall times of mlctl and of the plain script, for each round."""
    store = folder / "store"
    recipe, data = ROOT / "bench" / "digits.yaml", ROOT / "recipes" / "data" / "digits.csv.gz"
    mlctl = [str(Path(sys.executable).with_name("mlctl")), "run", str(recipe), "--store", str(store)]
    plain = [sys.executable, str(Path(__file__).with_name("plain_digits.py")), str(data), str(folder)]
    seconds(plain)
    times = []
    for _ in range(rounds):
        shutil.rmtree(store, ignore_errors=True)
        times.append((seconds(mlctl), seconds(plain)))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(asked.rounds, Path(folder))
    own, other = zip(*times, strict=True)
    ratio = Ratio.of(own, other, REACH)
    if asked.json:
        print(json.dumps(asdict(ratio), indent=2))
        return
    print(f"mlctl run {statistics.median(own):.1f} s, plain script {statistics.median(other):.1f} s, {ratio}")


if __name__ == "__main__":
    main()
