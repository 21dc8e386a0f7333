"""What layers lose with their units, as a PNG file."""

from mlctl.stages.chart import BOTTOM, HEIGHT, INK, LEFT, TOP, WIDTH, Chart
from mlctl.stages.layer_curves import SHARES, LayerCurves

HUES = ("#c0392b", "#1f5fa8", "#2e8b57", "#d68910", "#7d3c98", "#148f77", "#a04000", "#5d6d7e")
"""Colours of the layers that lose most; all others are drawn thin and grey."""
OTHERS = "#c8c8c8"
LINE = 20


def layers_png(curves: LayerCurves, title: str) -> bytes:
    """The figure over the share of a layer's units that are gone, a line a layer; the same bytes every time."""
    values = [value for each in curves.layers for value in each.values if value is not None] + [curves.whole]
    low, high = min(values), max(values)
    chart = Chart(low, high if high > low else low + 1.0)
    for share in (0.0, *SHARES, 1.0):
        chart.upright(share)
        if share * 4 == round(share * 4):
            chart.text(chart.x(share), HEIGHT - BOTTOM + 20, f"{share:.0%}", INK, "ms")
    chart.frame(f"{title}  {curves.step}: {curves.figure} without units of one layer", "share removed", curves.figure)
    shown = curves.most_sensitive(len(HUES))
    colors = dict(zip((each.layer for each in shown), HUES, strict=False))
    for each in sorted(curves.layers, key=lambda curve: curve.layer in colors):
        known = [(share, value) for share, value in zip(SHARES, each.values, strict=True) if value is not None]
        places = [(chart.x(share), chart.y(value)) for share, value in ((0.0, curves.whole), *known)]
        chart.line(places, colors.get(each.layer, OTHERS), 2 if each.layer in colors else 1)
    # Beside the end where the lines are not: figures that are better when higher fall, others rise.
    top = HEIGHT - BOTTOM - LINE * len(shown) - 8 if curves.better == "higher" else TOP + 8
    for number, each in enumerate(shown):
        chart.text(LEFT + 12, top + LINE * number, _short(each.layer, WIDTH // 24), colors[each.layer], "lt")
    return chart.png()


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
