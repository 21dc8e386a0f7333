from io import BytesIO
from itertools import pairwise
from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlctl.stages.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, nice_ticks
from mlctl.stages.curve_image import curve_png
from mlctl.stages.range_tests import RateCurve

RED = (192, 57, 43)


def curve(suggestion: float | None = 1e-3, configured: float = 5e-2) -> RateCurve:
    rates = tuple(10.0 ** (-7 + 0.08 * step) for step in range(95))
    smoothed = tuple(2.3 if rate < 1e-4 else 2.3 - 0.5 * log10(rate * 1e4) for rate in rates)
    return RateCurve("train", "sgd", configured, suggestion, "because", "x.png", rates, smoothed, smoothed)


def near(color: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(color, wanted, strict=True))


def columns(image: Image.Image, color: tuple[int, int, int]) -> set[int]:
    """The columns of the frame in which some pixel has about this color."""
    pixels = image.convert("RGB").load()
    assert pixels is not None
    return {
        x
        for x in range(LEFT + 1, WIDTH - RIGHT)
        for y in range(TOP, HEIGHT - BOTTOM - 2)
        if near(tuple(pixels[x, y]), color)  # type: ignore[arg-type]
    }


def test_the_suggestion_stands_at_its_place_on_a_scale_of_powers_of_ten() -> None:
    with Image.open(BytesIO(curve_png(curve(1e-3), "digits.yaml"))) as image:
        assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
        found = columns(image, RED)
    # From 1e-7 to 1e1 there are eight decades; 1e-3 stands half of the way.
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    assert found
    assert all(abs(x - middle) <= 2 for x in found)


def test_without_a_suggestion_none_is_drawn() -> None:
    with Image.open(BytesIO(curve_png(curve(None), "digits.yaml"))) as image:
        assert not columns(image, RED)


def test_the_same_curve_gives_the_same_bytes() -> None:
    assert curve_png(curve(), "digits.yaml") == curve_png(curve(), "digits.yaml")


@pytest.mark.parametrize("losses", [(2.0,), (2.0, 2.0), (0.0, 0.0, 0.0), (1e-9, 1e9), (5.0, 1e-30, 3e8)], ids=str)
def test_odd_curves_can_be_drawn(losses: tuple[float, ...]) -> None:
    rates = tuple(10.0 ** (-7 + step) for step in range(len(losses)))
    odd = RateCurve("train", "sgd", 100.0, None, "because", "x.png", rates, losses, losses)
    with Image.open(BytesIO(curve_png(odd, "odd.yaml"))) as image:
        assert image.size == (WIDTH, HEIGHT)


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6), most=st.integers(1, 12))
def test_ticks_are_few_even_and_within(low: float, size: float, most: int) -> None:
    high = low + size
    ticks = nice_ticks(low, high, most)
    slack = 1e-6 * max(size, abs(low), abs(high))
    assert len(ticks) <= most + 1
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3, abs=slack) if steps else True
