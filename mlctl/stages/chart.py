"""Charts as PNG files, drawn with Pillow: the same bytes for the same data."""

from collections.abc import Sequence
from io import BytesIO
from math import floor, log10

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 84, 28, 76, 64
SHARPNESS = 2
"""Pixels are drawn this many times larger, and averaged: Pillow's lines have hard edges."""
PAPER, INK, GRID, FAINT = "#ffffff", "#202020", "#e4e4e4", "#b8c7dd"
COLORS = 64
TICKS_UPWARDS = 6


class Chart:
    """An image of 960 by 540 pixels while it is drawn; places are in pixels of the finished one."""

    def __init__(self, low: float, high: float) -> None:
        """Values from `low` to `high`, which differ, are shown."""
        from PIL import Image, ImageDraw, ImageFont

        self.low, self.high = low, high
        self.image = Image.new("RGB", (WIDTH * SHARPNESS, HEIGHT * SHARPNESS), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(15 * SHARPNESS)
        self.small = ImageFont.load_default(11 * SHARPNESS)

    def x(self, share: float) -> float:
        """The column of a share of the frame's width, from 0 at its left to 1."""
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """The row of a value; one outside of what is shown lies on the frame."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def upright(self, share: float) -> None:
        """A grid line at a share of the frame's width."""
        self.line([(self.x(share), TOP), (self.x(share), HEIGHT - BOTTOM)], GRID)

    def frame(self, title: str, across: str, upwards: str) -> None:
        """The grid of values, both axes with what they are, and the title."""
        for tick in nice_ticks(self.low, self.high, TICKS_UPWARDS):
            self.line([(LEFT, self.y(tick)), (WIDTH - RIGHT, self.y(tick))], GRID)
            self.text(LEFT - 8, self.y(tick), f"{tick:.6g}", INK, "rm")
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        self.line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], INK)
        self.text((LEFT + right) / 2, HEIGHT - 14, across, INK, "ms")
        self.text(LEFT, TOP - 12, upwards, INK, "rs")
        self.text(LEFT, 26, title, INK, "ls")

    def text(self, x: float, y: float, text: str, color: str, anchor: str) -> None:
        """Text at a place, anchored as Pillow says it."""
        self.pen.text((x * SHARPNESS, y * SHARPNESS), text, color, self.font, anchor)

    def length(self, text: str) -> float:
        """The width of a text."""
        return self.font.getlength(text) / SHARPNESS

    def line(self, places: Sequence[tuple[float, float]], color: str, width: int = 1) -> None:
        """Straight lines from place to place."""
        self.pen.line([(x * SHARPNESS, y * SHARPNESS) for x, y in places], color, width * SHARPNESS, "curve")

    def png(self) -> bytes:
        """The finished image."""
        from PIL import Image

        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        stream = BytesIO()
        small.quantize(COLORS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        return stream.getvalue()


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = -floor(-low / step)
    return [number * step for number in range(first, floor(high / step + 1e-9) + 1)]
