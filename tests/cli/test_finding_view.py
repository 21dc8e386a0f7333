from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.cli.finding_view import LABEL, LEAST_COLUMNS, ROWS, curve_lines
from mlctl.stages.range_tests import RateCurve


def curve(smoothed: tuple[float, ...], suggestion: float | None = None) -> RateCurve:
    rates = tuple(10.0 ** (-7 + 8 * step / 99) for step in range(len(smoothed)))
    return RateCurve("train", "sgd", 0.1, suggestion, "because", "x.png", rates, smoothed, smoothed)


FALLING = tuple(2.0 - 0.01 * step for step in range(100))


def test_the_curve_falls_from_the_upper_left_to_the_lower_right() -> None:
    *rows, axis, labels = curve_lines(curve(FALLING, 1e-3), 80, is_unicode=False)
    assert len(rows) == ROWS
    columns = [row.find("*") for row in rows if "*" in row]
    assert columns == sorted(columns)
    assert columns[0] == LABEL + 1
    assert rows[-1].rstrip().endswith("*")
    assert all("*" in row for row in rows[3:])
    assert axis.strip().startswith("loss +---")
    assert labels.split() == ["1e-7", "1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1e0", "1e1"]


def test_the_suggestion_stands_above_its_power_of_ten() -> None:
    *rows, _, labels = curve_lines(curve(FALLING, 1e-3), 80, is_unicode=False)
    (place,) = {row.index(":") for row in rows if ":" in row}
    assert place == labels.index("1e-3")
    assert sum(":" in row or row[place] == "*" for row in rows) == ROWS


def test_every_loss_stands_in_the_row_of_its_value() -> None:
    flat = curve((2.0,) * 50 + (1.0,) * 50)
    *rows, _, _ = curve_lines(flat, 100, is_unicode=False)
    values = {number: row[:LABEL].strip() for number, row in enumerate(rows) if row[:LABEL].strip()}
    assert values == {0: "2.25", ROWS // 2: "1.577", ROWS - 1: "1"}
    left = next(number for number, row in enumerate(rows) if row[LABEL + 1 :].startswith("*"))
    # (2.25 - 2) / (2.25 - 1) of 13 steps downwards.
    assert left == round(0.2 * (ROWS - 1))


@given(
    smoothed=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=100).map(tuple),
    width=st.integers(1, 300),
    suggestion=st.none() | st.floats(1e-8, 10),
    is_unicode=st.booleans(),
)
def test_whatever_the_losses_and_the_width_are_the_frame_holds(
    smoothed: tuple[float, ...], width: int, suggestion: float | None, is_unicode: bool
) -> None:
    lines = list(curve_lines(curve(smoothed, suggestion), width, is_unicode=is_unicode))
    assert len(lines) == ROWS + 2
    assert max(map(len, lines)) <= max(width, LEAST_COLUMNS + LABEL + 2)
    text = "".join(lines)
    assert text.isprintable()
    assert is_unicode or text.isascii()


@pytest.mark.parametrize(
    ("suggestion", "text"),
    [
        (0.0031, "train: learning rate 0.0031 (the recipe has 0.1 for sgd): because"),
        (None, "train: no learning rate to suggest (the recipe has 0.1 for sgd): because"),
    ],
)
def test_the_advice_is_one_sentence(suggestion: float | None, text: str) -> None:
    assert curve(FALLING, suggestion).advice == text


def test_decades_hold_the_rates() -> None:
    found = curve(FALLING)
    assert found.decades == (-7, 1)
    assert curve((1.0,)).decades == (-7, -6)
    assert log10(found.rates[-1]) <= found.decades[1]
