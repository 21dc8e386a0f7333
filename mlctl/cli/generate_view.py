"""Generated text on the command line: made ready as a recipe says, then written as it comes."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.plan import Action, Life
from mlctl.engine.verdict import Failure, FollowersVerdict, Verdict
from mlctl.errors import Interrupted
from mlctl.stages.generation_plan import GenerationSettings, Place, generator
from mlctl.units import duration_text, plural

COMMAND = "generate"
_SPOKEN = frozenset("\n\t")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _SPOKEN}
"""Control characters that a terminal would obey, C0, DEL and C1, spelt out."""


@dataclass(frozen=True)
class Made:
    """Text, how many tokens it has, and how long they took."""

    text: str
    tokens: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The documented form."""
        per_token, rate = (self.seconds / self.tokens, self.rate) if self.tokens else (None, None)
        return {**asdict(self), "seconds_per_token": per_token, "tokens_per_second": rate}

    def __str__(self) -> str:
        return f"{plural(self.tokens, 'token')} in {duration_text(self.seconds)}, {self.rate:,.1f} tokens/s"

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds if self.tokens else 0.0


class Writer:
    """Collects what is generated, and writes it as it comes unless one document is asked for at the end."""

    def __init__(self, *, is_silent: bool) -> None:
        self._is_silent = is_silent
        self._is_shown_to_a_person = sys.stdout.isatty()
        self._pieces: list[str] = []
        self._began: float | None = None

    def write_all(self, pieces: Iterator[str]) -> None:
        """The text of one token after the other."""
        self._began = time.monotonic()
        for piece in pieces:
            self._pieces.append(piece)
            if piece and not self._is_silent:
                sys.stdout.write(text_for_terminal(piece) if self._is_shown_to_a_person else piece)
                sys.stdout.flush()

    def finish(self) -> Made:
        """End the last line, if any was begun; what was made."""
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        text = "".join(self._pieces)
        if not self._is_silent and self._pieces and not text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
        return Made(text, len(self._pieces), seconds)


def run_generate(
    session: Session, named: str | None, settings: GenerationSettings, options: RunOptions, output: Output
) -> int:
    """Make the model if it is not there yet, and let it go on with the text; the exit code.

    Stopped by a signal, which is how a person ends a text that has gone on for long enough, it ends as it would have.
    """
    using = generator(session.recipe, session.life, named)
    plan = session.plan(session.life.closure([using.model.name]))
    # Where nothing is to be made there is nothing to tell of it.
    is_ready = all(step.action is Action.REUSE for step in plan.steps)
    verdict = session.run(COMMAND, plan, options, replace(output, is_quiet=output.is_quiet or is_ready))
    if verdict.exit_code or isinstance(verdict, FollowersVerdict):
        return output.finish(verdict)
    folders = {step.step: Path(step.folder) for step in verdict.steps if step.folder}
    model, data = (step.stage.open(folders[step.name]) for step in (using.model, using.data))
    place = Place(options.threads, options.device, session.path.parent if options.allow_code else None)
    writer = Writer(is_silent=output.as_json)
    try:
        with raising_interrupts() as interrupts, output.telling(Life(COMMAND, Path(), ())) as tell:
            # What cannot be generated is refused before anything heavy is loaded.
            from mlctl.stages.generating import Generating

            generating = Generating(model, data, settings, place, interrupts.told(tell))
        with raising_interrupts():
            writer.write_all(generating.pieces())
    except Interrupted as error:
        # Typer has an answer of its own to what is a KeyboardInterrupt.
        verdict = replace(verdict, failures=(Failure.of(error),))
    return _ended(verdict, {"model": using.model.name, **asdict(settings)}, writer.finish(), output)


def _ended(verdict: Verdict, asked: dict[str, object], made: Made, output: Output) -> int:
    if output.as_json:
        document = {**verdict.to_json(), "generation": {**asked, **made.to_json()}}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    elif not output.is_quiet:
        sys.stderr.write(f"{made}\n")
    return verdict.exit_code


def text_for_terminal(text: str) -> str:
    """The text with control characters spelt out, all but line feed and tab."""
    return text.translate(_CONTROLS)
