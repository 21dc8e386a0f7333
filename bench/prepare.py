"""Preparing a table against pyarrow only reading it, and a text as byte pairs against `tokenizers` only encoding it.

    python bench/prepare.py [--table MEGABYTES] [--text MEGABYTES] [--rounds N] [--json]

`prepare` parses, checks, splits, measures and writes, and learns the text's 4,096 byte pairs; the others hold what they
have read and forget it. Every way runs in a process of its own, in turn, and `prepare`'s peak of resident memory is
printed. Sizes of 0 leave a part out. The table is made up, the text is Python's own library and what is installed
beside it, as often as it takes.
"""

import argparse
import json
import multiprocessing
import re
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from pyarrow import csv
from ratios import Ratio
from tokenizers import Tokenizer

from mlctl.data.preparation import prepare
from mlctl.data.reading import Number, Numbers, Reading
from mlctl.data.text_preparation import prepare_text
from mlctl.data.token_files import TOKENIZER_FILE
from mlctl.events import silent
from mlctl.recipe.prepare import FeatureSettings, LanguageModelingData, PairTokens, RegressionData

COLUMNS = 20
VOCABULARY = 4096
TEXTS_AT_ONCE = 512
TABLE_REACH, TEXT_REACH = 0.5, 0.8
Way = Callable[[Path], None]


@dataclass(frozen=True)
class Spent:
    """Seconds of one way, and the peak of its process's resident memory in megabytes."""

    seconds: float
    megabytes: float


def write_table(path: Path, megabytes: float) -> None:
    """A table of about that size: 20 columns of six digits, and a target."""
    generator = np.random.default_rng(0)
    names = ",".join([*(f"x{number}" for number in range(COLUMNS)), "y"])
    with path.open("w") as stream:
        stream.write(names + "\n")
        while stream.tell() < megabytes * 1e6:
            np.savetxt(stream, generator.normal(size=(2000, COLUMNS + 1)), fmt="%.6f", delimiter=",")


def write_text(path: Path, megabytes: float) -> None:
    """Sources of Python, one after the other, of about that size."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    files += sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    with path.open("wb") as stream:
        while stream.tell() < megabytes * 1e6:
            for file in files:
                content = file.read_bytes()
                if stream.tell() < megabytes * 1e6 and content.isascii():
                    stream.write(content)


def prepare_table(path: Path) -> None:
    """The table as `mlctl prepare` makes it."""
    reading = Reading("regression", (Numbers("features", ("x*",), standardize="first-axis"),), Number("y", True))
    settings = RegressionData(
        task="regression", source=(path.name,), features=FeatureSettings(columns=("x*",)), target="y"
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepare(reading, settings, path.parent, Path(folder), 0, silent)


def read_table(path: Path) -> None:
    """The table as pyarrow holds it."""
    csv.read_csv(path)


def prepare_pairs(path: Path) -> None:
    """The text as `mlctl prepare` makes it; its tokenizer is kept for the other way."""
    settings = LanguageModelingData(
        task="language-modeling", source=(path.name,), tokens=PairTokens(kind="bpe", vocabulary=VOCABULARY)
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepare_text(settings, path.parent, Path(folder), silent)
        (Path(folder) / TOKENIZER_FILE).rename(path.with_suffix(".json"))


def encode_pairs(path: Path) -> None:
    """The text's tokens with the same vocabulary, paragraph by paragraph, in batches for all cores."""
    tokenizer = Tokenizer.from_file(str(path.with_suffix(".json")))
    remaining = iter(re.split(r"(?<=\n)\n", path.read_text(encoding="utf-8")))
    while texts := list(islice(_joined(remaining), TEXTS_AT_ONCE)):
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def _joined(paragraphs: Iterator[str], least: int = 4096) -> Iterator[str]:
    """Paragraphs in a row of at least so many characters: the size that suits the library."""
    row: list[str] = []
    for each in paragraphs:
        row.append(each)
        if sum(map(len, row)) >= least:
            yield "\n".join(row)
            row = []
    if row:
        yield "\n".join(row)


def measured(way: Way, path: Path) -> Spent:
    """What a way spends in a new process; the time to load libraries is not counted."""
    # Started anew, not forked: the peak would begin with what this process holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_spent, way, path).result()


def _spent(way: Way, path: Path) -> Spent:
    start = time.perf_counter()
    way(path)
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return Spent(seconds, int(peak[1]) / 1e3 if peak else float("nan"))


@dataclass(frozen=True)
class Measured:
    """Megabytes per second of `prepare` and of the other way, the ratio of them, and `prepare`'s peak in megabytes."""

    megabytes: float
    prepare: float
    other: float
    ratio: Ratio
    peak: float


def measure(own: Way, other: Way, path: Path, rounds: int, reach: float) -> Measured:
    """Both ways in turn."""
    size = path.stat().st_size / 1e6
    found = [(measured(own, path), measured(other, path)) for _ in range(rounds)]
    rates = [[size / spent[way].seconds for spent in found] for way in (0, 1)]
    return Measured(
        size,
        statistics.median(rates[0]),
        statistics.median(rates[1]),
        Ratio.of(rates[0], rates[1], reach),
        max(spent.megabytes for spent, _ in found),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=float, default=60)
    parser.add_argument("--text", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    parts = (
        ("table, pyarrow only reading", asked.table, write_table, prepare_table, read_table, TABLE_REACH),
        ("text, tokenizers only encoding", asked.text, write_text, prepare_pairs, encode_pairs, TEXT_REACH),
    )
    for about, megabytes, write, own, other, reach in parts:
        if not megabytes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "source.csv" if own is prepare_table else Path(folder) / "source.txt"
            write(path, megabytes)
            found = measure(own, other, path, asked.rounds, reach)
        if asked.json:
            print(json.dumps({"about": about, **asdict(found)}))
        else:
            rates = f"prepare {found.prepare:.1f} MB/s, {about.partition(', ')[2]} {found.other:.1f} MB/s"
            what = about.partition(",")[0]
            print(f"{what}, {found.megabytes:.0f} MB: {rates}: {found.ratio}, peak {found.peak:.0f} MB")


if __name__ == "__main__":
    main()
