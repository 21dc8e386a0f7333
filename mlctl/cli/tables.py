"""What a run measured, as a table on stdout: one row per model, then the gates."""

import os
import sys
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlctl.cli.failure import failure_texts
from mlctl.cli.prune_report import pruning_tables
from mlctl.cli.report import GateRow, ModelTable, gate_rows, model_tables, step_lines
from mlctl.engine.gates import Outcome
from mlctl.engine.verdict import Verdict

WIDTH_OF_A_PIPE = 200
ROOMY = 100
STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_MEASURED: "dim",
}


def stdout_console() -> Console:
    """A console on stdout that wraps nothing in a pipe, unless COLUMNS says so."""
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() and int(asked) else None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    return Console(width=width, highlight=False, soft_wrap=False)


def show_verdict(verdict: Verdict) -> None:
    """Print figures, gates and failures."""
    console = stdout_console()
    tables = model_tables(verdict)
    for table in (*pruning_tables(verdict), *tables):
        console.print(Text(table.title), soft_wrap=True)
        _show_models(console, table)
        for note in table.notes:
            console.print(Text(f"warning: {note}", style="yellow"), soft_wrap=True)
    if not tables:
        for line in step_lines(verdict):
            console.print(Text(line), soft_wrap=True)
    for gate in _gates(gate_rows(verdict)):
        console.print(gate, soft_wrap=True)
    for text in failure_texts(verdict):
        sys.stderr.write(text + "\n")


def _models(model_table: ModelTable, padding: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, padding))
    for number, heading in enumerate(model_table.headings):
        # On a narrow terminal a cell takes several lines; nothing is ever cut off.
        longest = max(len(word) for word in heading.split())
        table.add_column(heading, justify="right" if number else "left", overflow="fold", min_width=longest)
    for row in model_table.rows:
        table.add_row(*row)
    return table


def _show_models(console: Console, model_table: ModelTable) -> None:
    with console.capture() as captured:
        console.print(_models(model_table, padding=1 if console.width >= ROOMY else 0))
    drawn = captured.get()
    # Rich squeezes columns until a table fits; where that breaks words, every figure gets a line of its own.
    if all(word in drawn for heading in model_table.headings for word in heading.split()):
        console.file.write("".join(f"{line.rstrip()}\n" for line in drawn.splitlines()))
        return
    for row in model_table.rows:
        for heading, cell in zip(model_table.headings, row, strict=True):
            console.print(Text(f"{heading}: {cell}"), soft_wrap=True)


def _gates(rows: tuple[GateRow, ...]) -> Iterator[Text]:
    outcome, gate, values = (
        (
            max((len(each) for each in column), default=0)
            for column in zip(*((row.outcome, row.gate, row.values) for row in rows), strict=True)
        )
        if rows
        else (0, 0, 0)
    )
    for row in rows:
        line = Text(f"{row.outcome:<{outcome}}", style=STYLES[row.outcome])
        yield line.append(f"  {row.gate:<{gate}}  {row.values:<{values}}  {row.note}".rstrip(), style="default")
