"""A publication on the command line: run what it needs, publish, and say what came of it."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlctl.cli.models_view import say_waiting
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Failure, FollowersVerdict, Verdict
from mlctl.errors import MlctlError, UsageError
from mlctl.stages.publishing import Publication, PublishVerdict, publish_step, refused
from mlctl.stages.versions import FOREIGN_CONFIG

COMMAND = "publish"


def require_recipe(path: Path) -> None:
    """Raise UsageError for a graph in a recipe's place."""
    if path.suffix == ".onnx":
        raise UsageError(
            "this is an ONNX file, and `publish` takes a recipe",
            where=path,
            next=f"take the graph into a recipe with `export: {{from: {path.name}}}` beside its data, and publish that",
        )


def run_publish(
    session: Session, wanted: Publication, force: Sequence[str], options: RunOptions, output: Output
) -> int:
    """Make the model if it is not there yet, judge the gates, and publish it where they pass; the exit code."""
    plan = session.plan(wanted.wanted(session.life), force)
    made = session.run(COMMAND, plan, options, output)
    if isinstance(made, FollowersVerdict):
        return output.finish(made)
    verdict = _published(wanted, made, options)
    code = output.finish(verdict)
    if not output.as_json:
        sys.stdout.writelines(f"{line}\n" for line in _told(verdict))
        if code and not verdict.failures:
            sys.stderr.write(f"mlctl: {wanted.name}: not published, because a gate has not passed\n")
            sys.stderr.write("  next: change what the gate above judges, or the gate, and run the same command again\n")
    return code


def _published(wanted: Publication, made: Verdict, options: RunOptions) -> PublishVerdict:
    if made.exit_code:
        return refused(wanted, made)
    try:
        return publish_step(wanted, made, options.threads, say_waiting)
    except MlctlError as error:
        return refused(wanted, replace(made, failures=(Failure.of(error),)))


def _told(verdict: PublishVerdict) -> Iterator[str]:
    found = verdict.published
    if found is None:
        return
    if found.is_new:
        yield f"published {found.name}@{found.version}"
    else:
        yield f"{found.name}@{found.version} is this very artifact; nothing new was published (`--again` would)"
    for label in found.labels:
        yield f"{label} is {found.name}@{found.version}"
    if found.live != found.version:
        live = "gone" if found.live is None else f"{found.name}@{found.live}"
        yield f"the live version is {live}; `mlctl promote {found.name}@{found.version}` changes that"
    if not found.has_config:
        yield FOREIGN_CONFIG
