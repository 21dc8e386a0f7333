"""What a run measured, as a table on stdout: one row per model, then the gates."""

import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from mlctl.cli.failure import failure_texts
from mlctl.cli.figure_rows import color_system, show_rows
from mlctl.cli.prune_report import pruning_tables
from mlctl.cli.report import GateRow, gate_rows, model_tables, step_lines
from mlctl.engine.gates import Outcome
from mlctl.engine.verdict import Verdict

WIDTH_OF_A_PIPE = 200
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
    return Console(width=width, color_system=color_system(), highlight=False, soft_wrap=False)


def show_verdict(verdict: Verdict) -> None:
    """Print figures, gates and failures."""
    console = stdout_console()
    tables = model_tables(verdict)
    for table in (*pruning_tables(verdict), *tables):
        console.print(Text(table.title), soft_wrap=True)
        show_rows(console, table.headings, table.rows)
        for note in table.notes:
            console.print(Text(f"warning: {note}", style="yellow"), soft_wrap=True)
    if not tables:
        for line in step_lines(verdict):
            console.print(Text(line), soft_wrap=True)
    for gate in _gates(gate_rows(verdict)):
        console.print(gate, soft_wrap=True)
    for text in failure_texts(verdict):
        sys.stderr.write(text + "\n")


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
