"""What every layer's units are worth, as a table on the terminal."""

from rich.text import Text

from mlctl.cli.figure_rows import show_rows
from mlctl.cli.report import ABSENT, number_text
from mlctl.cli.tables import stdout_console
from mlctl.stages.layer_curves import SHARES, LayerCurve, LayerCurves


def show_layers(curves: tuple[LayerCurves, ...]) -> None:
    """Write a table for every prune step to stdout: a line a layer, the figure with each share of its units gone."""
    console = stdout_console()
    for each in curves:
        title = (
            f"{each.step}: {each.figure} on {each.rows:,} rows of the validation split, {number_text(each.whole)} whole"
        )
        console.print(Text(title), soft_wrap=True)
        shares = (f"-{share:.1%}".replace(".0%", "%") for share in SHARES)
        show_rows(console, ("layer", "units", *shares), tuple(map(_row, each.layers)))
        for layer, why in each.fixed.items():
            console.print(Text(f"{layer} stays whole: {why}"), soft_wrap=True)
        console.print(Text(f"curves: {each.image}"), soft_wrap=True)


def _row(layer: LayerCurve) -> tuple[str, ...]:
    values = (ABSENT if value is None else number_text(value) for value in layer.values)
    return layer.layer, f"{layer.units:,} {layer.kind}", *values
