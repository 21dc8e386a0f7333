"""What GitHub Actions shows: the table in the step summary, failed gates as annotations."""

import os
import sys
from pathlib import Path

from mlctl.cli.report import gate_rows, model_tables, step_lines
from mlctl.engine.gates import Outcome
from mlctl.engine.verdict import Verdict


def annotate(verdict: Verdict) -> None:
    """Append the summary to GITHUB_STEP_SUMMARY, and write one annotation per failed gate and failure to stderr."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as stream:
                stream.write(markdown(verdict))
        except OSError as error:
            sys.stderr.write(f"::warning::the step summary cannot be written ({error.strerror})\n")
    for gate in gate_rows(verdict):
        if gate.outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
            level = "error" if gate.outcome is Outcome.FAILED else "warning"
            sys.stderr.write(
                f"::{level} title={_property(f'gate {gate.outcome}')}::{_data(f'{gate.gate}: {gate.values}')}\n"
            )
    for failure in verdict.failures:
        sys.stderr.write(f"::error title={_property(failure.kind)}::{_data(f'{failure.what} - {failure.next}')}\n")


def markdown(verdict: Verdict) -> str:
    """The verdict as a Markdown section."""
    word = "passed" if verdict.exit_code == 0 else f"failed with exit code {verdict.exit_code}"
    lines = [f"## mlctl {verdict.command}: {word}", ""]
    tables = model_tables(verdict)
    for table in tables:
        lines += [table.title, ""]
        lines += [_row(table.headings), _row(tuple("---" for _ in table.headings)), *map(_row, table.rows), ""]
        lines += [f"- warning: {note}" for note in table.notes] + ([""] if table.notes else [])
    if not tables:
        lines += [*(f"    {line}" for line in step_lines(verdict)), ""]
    gates = gate_rows(verdict)
    if gates:
        lines += ["| gate | outcome | values | |", "| --- | --- | --- | --- |"]
        lines += [_row((f"`{gate.gate}`", gate.outcome.value, gate.values, gate.note)) for gate in gates]
        lines.append("")
    lines += [f"- **{failure.kind}**: {failure.what} ({failure.next})" for failure in verdict.failures]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
