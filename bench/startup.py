"""How long mlctl takes to answer when there is nothing to compute, against a typer hello-world's `--help`.

    python bench/startup.py [--rounds N] [--json]

Every round starts each command once, in turn, so that noise hits all alike. The hello-world is typer as its
documentation shows it; the finished run is of `recipes/digits.yaml`, which is run once beforehand.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ratios import Ratio, seconds

ROOT = Path(__file__).parents[1]
HELLO = """\
import typer

app = typer.Typer()


@app.command()
def main(name: str) -> None:
    print(f"Hello {name}")


if __name__ == "__main__":
    app()
"""
REACH: dict[str, float | None] = {"--help": 1.1, "--version": 0.6, "plan": None, "finished run": 2.5}


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Wall times of every command, one for each round."""
    hello, store = folder / "hello.py", folder / "store"
    hello.write_text(HELLO)
    mlctl = [str(Path(sys.executable).with_name("mlctl"))]
    recipe = [str(ROOT / "recipes" / "digits.yaml"), "--store", str(store)]
    commands = {
        "hello --help": [sys.executable, str(hello), "--help"],
        "--help": [*mlctl, "--help"],
        "--version": [*mlctl, "--version"],
        "plan": [*mlctl, "plan", *recipe],
        "finished run": [*mlctl, "run", *recipe],
    }
    seconds(commands["finished run"])
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(command))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(asked.rounds, Path(folder))
    base = times.pop("hello --help")
    ratios = {name: Ratio.of(each, base, REACH[name]) for name, each in times.items()}
    if asked.json:
        print(json.dumps({name: asdict(ratio) for name, ratio in ratios.items()}, indent=2))
        return
    print(f"typer hello-world --help: {statistics.median(base) * 1000:.0f} ms")
    for name, ratio in ratios.items():
        print(f"mlctl {name:<13} {statistics.median(times[name]) * 1000:6.0f} ms  {ratio}")


if __name__ == "__main__":
    main()
