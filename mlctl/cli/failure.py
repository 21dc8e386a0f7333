"""How a refusal looks: text on stderr, or a verdict on stdout for `--json`."""

import json
import sys
from collections.abc import Iterator, Sequence

from mlctl import __version__
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import RecipeError, Refusal


def show_failure(error: Refusal, arguments: Sequence[str]) -> int:
    """Write the failure as `arguments` ask for it, and return its exit code."""
    failure = Failure.of(error)
    if "--json" in arguments:
        command = next((each for each in arguments if not each.startswith("-")), "")
        verdict = Verdict(__version__, command, recipe=None, failures=(failure,))
        sys.stdout.write(json.dumps(verdict.to_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(failure_text(error) + "\n")
    return failure.exit_code


def failure_text(error: Refusal) -> str:
    """Where, what, and what to do next."""
    return str(error) if isinstance(error, RecipeError) else f"mlctl: {error}"


def failure_texts(verdict: Verdict) -> Iterator[str]:
    """Each failure of a verdict: where, step, what, and what to do next."""
    for failure in verdict.failures:
        place = f"{failure.where}: " if failure.where else ""
        step = f"{failure.step}: " if failure.step and not failure.what.startswith(failure.step) else ""
        yield f"mlctl: {place}{step}{failure.what}\n  next: {failure.next}"
