"""A comparison on the command line: find the models and the data, compare, and show what was found."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.preparing import prepared_data
from mlctl.cli.report import model_tables, signed_text
from mlctl.cli.session import Session, default_threads
from mlctl.digests import jsonable
from mlctl.engine.plan import Life
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted, UsageError
from mlctl.recipe.evaluate import EvalSettings
from mlctl.stages.forms import Form, form, prepared_for
from mlctl.stages.model_names import named
from mlctl.units import plural

if TYPE_CHECKING:
    from mlctl.stages.comparing import Comparison

COMMAND = "compare"
MOST_CLASSES = 5


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for: paths, or steps of the recipe `data`."""

    models: tuple[str, ...]
    data: Path | None
    store: Path | None
    settings: EvalSettings
    device: str
    allows_code: bool


def run_compare(wanted: Wanted, output: Output, *, as_markdown: bool) -> int:
    """Compare, print what was found, and return the exit code."""
    if output.as_json and as_markdown:
        raise UsageError("--json and --markdown are two forms of one answer", next="choose one of them")
    if len(wanted.models) < 2:
        raise UsageError("one model is no comparison", next="name two models or more")
    forms = _forms(wanted)
    if wanted.data:
        verdict, data = prepared_data(wanted.data, wanted.store, output)
        if data is None:
            return output.finish(verdict)
    else:
        data = prepared_for(tuple(forms.values()))
    # What cannot be compared is refused before anything heavy is loaded.
    from mlctl.stages.comparing import STEP, Place, compare

    place = Place(wanted.device, default_threads(), wanted.allows_code)
    try:
        with raising_interrupts() as interrupts, output.telling(Life(STEP, Path(), ())) as tell:
            found = compare(forms, data, wanted.settings, place, interrupts.told(tell))
    except Interrupted as error:
        return output.finish(Verdict(__version__, COMMAND, recipe=None, failures=(Failure.of(error),)))
    return _show(found, output, as_markdown=as_markdown)


def _forms(wanted: Wanted) -> dict[str, Form]:
    found = [form(_place(model, wanted)) for model in wanted.models]
    names = named([each.file for each in found])
    return {name: each for (name, _), each in zip(names, found, strict=True)}


def _place(model: str, wanted: Wanted) -> Path:
    """The path that was named, or the step of the recipe whose data is used."""
    path = Path(model)
    if path.exists() or not wanted.data:
        return path
    session = Session(wanted.data, (), wanted.store)
    step = session.store.root / "steps" / session.recipe.name / model
    return step if step.exists() else path


def _show(found: "Comparison", output: Output, *, as_markdown: bool) -> int:
    from mlctl.stages.comparing import losses

    verdict = Verdict(__version__, COMMAND, recipe=None, steps=(found.result,))
    if output.as_json:
        changes = {
            model: [{"label": found.labels[each.number], **asdict(each)} for each in classes]
            for model, classes in found.changes.items()
        }
        document = {**verdict.to_json(), "classes": jsonable(changes)}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return verdict.exit_code
    lost = [
        f"{model} lost on {label}: {each.first:.4f} to {each.second:.4f} "
        f"[{signed_text(each.change.low)}, {signed_text(each.change.high)}] of {plural(each.samples, 'row')}"
        for model, label, each in losses(found, MOST_CLASSES)
    ]
    if as_markdown:
        sys.stdout.writelines(f"{line}\n" for line in _markdown(verdict, lost))
        return verdict.exit_code
    code = output.finish(verdict)
    sys.stdout.writelines(f"{line}\n" for line in lost)
    return code


def _markdown(verdict: Verdict, lost: list[str]) -> Iterator[str]:
    for table in model_tables(verdict):
        yield f"**{_escaped(table.title)}**"
        yield ""
        yield _row(table.headings)
        yield _row(("---", *("---:" for _ in table.headings[1:])))
        yield from map(_row, table.rows)
        yield ""
        yield from (f"- {_escaped(each)}" for each in (*table.notes, *lost))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
