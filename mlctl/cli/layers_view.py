"""What every layer's units are worth, as a table on the terminal."""

from rich import box
from rich.table import Table
from rich.text import Text

from mlctl.cli.report import ABSENT, number_text
from mlctl.cli.tables import stdout_console
from mlctl.stages.layer_curves import SHARES, LayerCurves


def show_layers(curves: tuple[LayerCurves, ...]) -> None:
    """Write a table for every prune step to stdout: a line a layer, the figure with each share of its units gone."""
    console = stdout_console()
    for each in curves:
        title = (
            f"{each.step}: {each.figure} on {each.rows:,} rows of the validation split, {number_text(each.whole)} whole"
        )
        console.print(Text(title), soft_wrap=True)
        console.print(_table(each))
        for layer, why in each.fixed.items():
            console.print(Text(f"{layer} stays whole: {why}"), soft_wrap=True)
        console.print(Text(f"curves: {each.image}"), soft_wrap=True)


def _table(curves: LayerCurves) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
    table.add_column("layer", overflow="fold")
    table.add_column("units", justify="right")
    for share in SHARES:
        table.add_column(f"-{share:.1%}".replace(".0%", "%"), justify="right", no_wrap=True)
    for each in curves.layers:
        values = (ABSENT if value is None else number_text(value) for value in each.values)
        table.add_row(each.layer, f"{each.units:,} {each.kind}", *values)
    return table
