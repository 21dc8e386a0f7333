"""Numbers as tables show them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.cli.report import number_text, signed_text

finite = st.floats(-1e300, 1e300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3982.3555, "3,982"),
        (999.996, "1,000"),
        (157002.0, "157,002"),
        (157002.4, "157,002"),
        (123.4567, "123.46"),
        (57.12345, "57.123"),
        (9.99996, "10.000"),
        (0.98519, "0.9852"),
        (0.5, "0.5000"),
        (1.0, "1"),
        (0.0, "0"),
        (-0.0, "0"),
        (-3982.3555, "-3,982"),
        (3.123e-05, "3.12e-05"),
        (-0.00001, "-1e-05"),
        (1e16, "1e+16"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_has_five_digits_at_most_that_matter(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "+0.0123"),
        (-0.01234, "-0.0123"),
        (0.0, "0.0000"),
        (-0.0, "0.0000"),
        (-0.00001, "0.0000"),
        (0.00004, "0.0000"),
        (-3982.3555, "-3,982"),
        (57.12345, "+57.123"),
        (math.inf, "+inf"),
    ],
)
def test_a_difference_has_a_sign_unless_it_is_none(value: float, text: str) -> None:
    assert signed_text(value) == text


@given(finite)
def test_what_is_shown_is_what_was_measured_to_the_digits_shown(value: float) -> None:
    shown = float(number_text(value).replace(",", ""))
    # Four decimals are half a unit of 1e-4 away at most; from 10 on, the fifth digit is less than 1e-4 of the number;
    # above 1,000, whole numbers are half of one away; three digits of a power of ten, half of 1e-2.
    assert abs(shown - value) <= max(0.5e-4, 0.5e-3 * abs(value)) or math.isclose(shown, value, rel_tol=0.5e-2)
    assert (shown < 0) == (value < 0) or shown == 0


@given(finite)
def test_a_difference_of_nothing_has_no_sign_and_any_other_has_one(value: float) -> None:
    text = signed_text(value)
    assert (text == "0.0000") == (abs(value) < 0.5e-4) or math.isclose(abs(value), 0.5e-4)
    assert text == "0.0000" or text[0] == ("+" if value > 0 else "-")
