"""The data sets in recipes/data are what their pages say."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mlctl.digests import file_digest

DATA = Path(__file__).parents[2] / "recipes" / "data"


@pytest.mark.parametrize(("name", "page"), [("digits.csv.gz", "digits.md"), ("line.csv", "line.md")])
def test_the_page_states_the_digest(name: str, page: str) -> None:
    assert file_digest(DATA / name) in (DATA / page).read_text(encoding="utf-8")


def test_digits_are_those_of_scikit_learn() -> None:
    with gzip.open(DATA / "digits.csv.gz", "rt", newline="") as stream:
        header, *rows = csv.reader(stream)
    digits = load_digits()
    assert header == [f"pixel_{row}_{column}" for row in range(8) for column in range(8)] + ["digit"]
    values = np.array(rows, dtype=int)
    assert (values[:, :-1] == digits.data).all()
    assert (values[:, -1] == digits.target).all()
    assert values.shape == (1797, 65)


def test_the_packed_file_holds_no_time() -> None:
    assert (DATA / "digits.csv.gz").read_bytes()[4:8] == bytes(4)


def test_the_line_is_the_one_on_its_page() -> None:
    x, y = np.loadtxt(DATA / "line.csv", delimiter=",", skiprows=1, unpack=True)
    slope, start = np.polyfit(x, y, 1)
    assert len(x) == 1000
    assert abs(x).max() <= 2
    # Four standard errors each, of 1,000 points: slope 0.5/√(1000 × 4/3), start 0.5/√1000, noise 0.5/√2000.
    assert slope == pytest.approx(3, abs=0.055)
    assert start == pytest.approx(2, abs=0.064)
    assert (y - 3 * x - 2).std() == pytest.approx(0.5, abs=0.045)
