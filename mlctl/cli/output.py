"""Where a command's words go: results to stdout, everything else to stderr."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlctl.cli.failure import failure_texts
from mlctl.engine.plan import Life
from mlctl.engine.verdict import FollowersVerdict, Verdict
from mlctl.events import Tell, silent


@dataclass(frozen=True)
class Output:
    """How this run speaks."""

    as_json: bool = False
    is_quiet: bool = False
    junit: Path | None = None

    @contextmanager
    def telling(self, life: Life, *, is_follower: bool = False) -> Iterator[Tell]:
        """A `Tell` that draws on stderr: live on a terminal, plain lines elsewhere; who follows is silent."""
        if self.is_quiet or is_follower:
            yield silent
            return
        if is_terminal(sys.stderr):
            from mlctl.cli.live import live_progress

            with live_progress(_width(life)) as tell:
                yield tell
        else:
            yield self.lines(life)

    def lines(self, life: Life) -> Tell:
        """A `Tell` that writes plain lines on stderr."""
        from mlctl.cli.lines import PlainLines

        return silent if self.is_quiet else PlainLines(_width(life), sys.stderr).tell

    def finish(self, verdict: Verdict) -> int:
        """Write the verdict in every form that was asked for, and return its exit code.

        Of one that another process shows, only failures that it does not know of are written.
        """
        if isinstance(verdict, FollowersVerdict):
            sys.stderr.writelines(f"{text}\n" for text in failure_texts(verdict) if not verdict.is_told)
            return verdict.exit_code
        if self.junit:
            from mlctl.cli.junit import write_junit

            write_junit(verdict, self.junit)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from mlctl.cli.github import annotate

            annotate(verdict)
        if self.as_json:
            sys.stdout.write(json.dumps(verdict.to_json(), indent=2, ensure_ascii=False) + "\n")
        else:
            from mlctl.cli.tables import show_verdict

            show_verdict(verdict)
        return verdict.exit_code


def _width(life: Life) -> int:
    return max((len(step.name) for step in life.steps), default=0)


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person watches the stream: a terminal that can move its cursor, and no CI."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
