"""A learning-rate range test as a PNG file."""

from math import log10

from mlctl.stages.chart import BOTTOM, FAINT, HEIGHT, INK, RIGHT, SHARPNESS, TOP, WIDTH, Chart
from mlctl.stages.range_tests import RateCurve

CURVE, SUGGESTED, CONFIGURED = "#1f5fa8", "#c0392b", "#777777"
DASH = 6


def curve_png(curve: RateCurve, title: str) -> bytes:
    """The losses and the smoothed loss over the rates, 960 by 540 pixels; the same bytes for the same curve."""
    drawing = _Drawing(curve)
    drawing.axes(f"{title}  {curve.step}: loss over learning rate")
    drawing.curve()
    drawing.marks()
    return drawing.chart.png()


class _Drawing:
    """The chart while it is drawn, over a scale of powers of ten."""

    def __init__(self, curve: RateCurve) -> None:
        self.data = curve
        self.first, self.last = curve.decades
        self.chart = Chart(*curve.bounds)

    def x(self, rate: float) -> float:
        return self.chart.x((log10(rate) - self.first) / (self.last - self.first))

    def axes(self, title: str) -> None:
        for decade in range(self.first, self.last + 1):
            self.chart.upright((decade - self.first) / (self.last - self.first))
            self.power(self.x(10.0**decade), HEIGHT - BOTTOM + 8, decade)
        self.chart.frame(title, "learning rate", "loss")

    def curve(self) -> None:
        for rate, loss in zip(self.data.rates, self.data.losses, strict=True):
            x, y = self.x(rate) * SHARPNESS, self.chart.y(loss) * SHARPNESS
            box = (x - 2 * SHARPNESS, y - 2 * SHARPNESS, x + 2 * SHARPNESS, y + 2 * SHARPNESS)
            self.chart.pen.ellipse(box, fill=FAINT)
        pairs = zip(self.data.rates, self.data.smoothed, strict=True)
        self.chart.line([(self.x(rate), self.chart.y(loss)) for rate, loss in pairs], CURVE, 2)

    def marks(self) -> None:
        wanted = [("recipe", self.data.configured, CONFIGURED), ("suggestion", self.data.suggestion, SUGGESTED)]
        right = float(WIDTH - RIGHT)
        for name, rate, color in wanted:
            if rate is None:
                continue
            if 10.0**self.first <= rate <= 10.0**self.last:
                for start in range(TOP, HEIGHT - BOTTOM, 2 * DASH):
                    self.chart.line([(self.x(rate), start), (self.x(rate), start + DASH)], color, 2)
            label = f"{name} {rate:.2g}"
            self.chart.text(right, 26, label, color, "rs")
            right -= self.chart.length(label) + 24

    def power(self, x: float, y: float, exponent: int) -> None:
        """Ten with its exponent, centred below (x, y)."""
        chart = self.chart
        widths = chart.length("10"), chart.small.getlength(str(exponent)) / SHARPNESS
        left = x - sum(widths) / 2
        chart.text(left, y + 16, "10", INK, "ls")
        place = ((left + widths[0]) * SHARPNESS, (y + 9) * SHARPNESS)
        chart.pen.text(place, str(exponent), INK, chart.small, "ls")
