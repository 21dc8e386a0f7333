"""A learning-rate range test as a PNG file."""

from collections.abc import Sequence
from io import BytesIO
from math import floor, log10

from mlctl.stages.range_tests import RateCurve

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 84, 28, 76, 64
SHARPNESS = 2
"""Pixels are drawn this many times larger, and averaged: Pillow's lines have hard edges."""
PAPER, INK, GRID, FAINT = "#ffffff", "#202020", "#e4e4e4", "#b8c7dd"
CURVE, SUGGESTED, CONFIGURED = "#1f5fa8", "#c0392b", "#777777"
TICKS_UPWARDS = 6
DASH = 6


def curve_png(curve: RateCurve, title: str) -> bytes:
    """The losses and the smoothed loss over the rates, 960 by 540 pixels; the same bytes for the same curve."""
    from PIL import Image

    drawing = _Drawing(curve)
    drawing.axes(f"{title}  {curve.step}: loss over learning rate")
    drawing.curve()
    drawing.marks()
    small = drawing.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    stream = BytesIO()
    small.quantize(64, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


class _Drawing:
    """The image while it is drawn; places are in pixels of the finished one."""

    def __init__(self, curve: RateCurve) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self.data = curve
        self.first, self.last = curve.decades
        self.low, self.high = curve.bounds
        self.image = Image.new("RGB", (WIDTH * SHARPNESS, HEIGHT * SHARPNESS), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(15 * SHARPNESS)
        self.small = ImageFont.load_default(11 * SHARPNESS)

    def x(self, rate: float) -> float:
        return LEFT + (log10(rate) - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        share = (min(max(loss, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def axes(self, title: str) -> None:
        for decade in range(self.first, self.last + 1):
            place = self.x(10.0**decade)
            self.line([(place, TOP), (place, HEIGHT - BOTTOM)], GRID)
            self.power(place, HEIGHT - BOTTOM + 8, decade)
        for tick in nice_ticks(self.low, self.high, TICKS_UPWARDS):
            self.line([(LEFT, self.y(tick)), (WIDTH - RIGHT, self.y(tick))], GRID)
            self.text(LEFT - 8, self.y(tick), f"{tick:.6g}", INK, "rm")
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        self.line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], INK)
        self.text((LEFT + right) / 2, HEIGHT - 14, "learning rate", INK, "ms")
        self.text(LEFT, TOP - 12, "loss", INK, "rs")
        self.text(LEFT, 26, title, INK, "ls")

    def curve(self) -> None:
        for rate, loss in zip(self.data.rates, self.data.losses, strict=True):
            x, y = self.x(rate) * SHARPNESS, self.y(loss) * SHARPNESS
            self.pen.ellipse((x - 2 * SHARPNESS, y - 2 * SHARPNESS, x + 2 * SHARPNESS, y + 2 * SHARPNESS), fill=FAINT)
        places = [(self.x(rate), self.y(loss)) for rate, loss in zip(self.data.rates, self.data.smoothed, strict=True)]
        self.line(places, CURVE, 2)

    def marks(self) -> None:
        wanted = [("recipe", self.data.configured, CONFIGURED), ("suggestion", self.data.suggestion, SUGGESTED)]
        right = float(WIDTH - RIGHT)
        for name, rate, color in wanted:
            if rate is None:
                continue
            if 10.0**self.first <= rate <= 10.0**self.last:
                for start in range(TOP, HEIGHT - BOTTOM, 2 * DASH):
                    self.line([(self.x(rate), start), (self.x(rate), start + DASH)], color, 2)
            label = f"{name} {rate:.2g}"
            self.text(right, 26, label, color, "rs")
            right -= self.font.getlength(label) / SHARPNESS + 24

    def power(self, x: float, y: float, exponent: int) -> None:
        """Ten with its exponent, centred below (x, y)."""
        widths = self.font.getlength("10"), self.small.getlength(str(exponent))
        left = x - sum(widths) / SHARPNESS / 2
        self.text(left, y + 16, "10", INK, "ls")
        place = ((left + widths[0] / SHARPNESS) * SHARPNESS, (y + 9) * SHARPNESS)
        self.pen.text(place, str(exponent), INK, self.small, "ls")

    def text(self, x: float, y: float, text: str, color: str, anchor: str) -> None:
        self.pen.text((x * SHARPNESS, y * SHARPNESS), text, color, self.font, anchor)

    def line(self, places: Sequence[tuple[float, float]], color: str, width: int = 1) -> None:
        self.pen.line([(x * SHARPNESS, y * SHARPNESS) for x, y in places], color, width * SHARPNESS, "curve")


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = -floor(-low / step)
    return [number * step for number in range(first, floor(high / step + 1e-9) + 1)]
