"""`mlctl serve` from its arguments to its server: a recipe is made first, as far as it is not there yet."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.errors import UsageError
from mlctl.stages.serving import OneModel, serve
from mlctl.stages.serving_plan import ServeFlags, model_name, server_settings

if TYPE_CHECKING:
    from mlctl.recipe.serve import ServeSettings

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Making:
    """How a recipe's steps are made before one of them is served."""

    overrides: tuple[str, ...]
    store: Path | None
    forced: tuple[str, ...]
    step: str | None
    threads: int | None
    allow_code: bool


@dataclass(frozen=True)
class Speaking:
    """How the command speaks."""

    as_json: bool
    is_quiet: bool


@dataclass(frozen=True)
class Target:
    """What is to be served: a recipe or a file, or else a repository."""

    place: Path | None
    repository: Path | None
    name: str | None
    """What the one model is called."""


def run_serve(target: Target, flags: ServeFlags, making: Making, speaking: Speaking, *, is_selftest: bool) -> int:
    """Serve what is named until the process is told to end, or prove its batches; the exit code."""
    _require_one(target)
    if target.repository is not None:
        what: OneModel | Path = target.repository
        settings = server_settings(flags)
    elif target.place is not None and target.place.suffix in (".yaml", ".yml"):
        made = _made(target.place, making, speaking)
        if isinstance(made, int):
            return made
        what, settings = made.model, server_settings(flags, made.asked, target.place.parent)
    else:
        assert target.place is not None
        what, settings = _file(target.place), server_settings(flags)
    if isinstance(what, OneModel) and target.name:
        what = replace(what, name=target.name)
    if is_selftest:
        from mlctl.cli.selftest_view import show_proofs
        from mlctl.stages.proving import prove

        return show_proofs(prove(what, settings), as_json=speaking.as_json)
    return serve(what, settings, as_json=speaking.as_json, is_quiet=speaking.is_quiet)


def _require_one(target: Target) -> None:
    if (target.place is None) == (target.repository is None):
        raise UsageError(
            "there is nothing to serve" if target.place is None else "a model and a repository cannot both be served",
            next="name a recipe, an ONNX file, or a repository with `--repository FOLDER`",
        )
    if target.name is not None and target.name != model_name(target.name):
        raise UsageError(
            f"{target.name!r} is no name for a model",
            next="take letters, digits, `-`, `_` and `.`, 64 at most, with a letter or a digit first and last",
        )


def _file(place: Path) -> OneModel:
    """The graph that is named, or that lies in the folder that is named."""
    graph = place / GRAPH if place.is_dir() else place
    if not graph.is_file():
        raise UsageError("there is no such model", where=graph, next="name a recipe (.yaml) or an ONNX file")
    # Many a file is called model.onnx, and its folder says which.
    named = graph.resolve().parent.name if graph.name == GRAPH else graph.stem
    return OneModel(model_name(named), graph)


@dataclass(frozen=True)
class _Made:
    model: OneModel
    asked: "ServeSettings"


def _made(recipe: Path, making: Making, speaking: Speaking) -> _Made | int:
    """The recipe's graph; or the exit code of what kept it from being made."""
    from mlctl.cli.output import Output
    from mlctl.cli.session import Session, run_options
    from mlctl.stages.serve import served

    session = Session(recipe, making.overrides, making.store)
    found = served(session.recipe, session.life, making.step)
    plan = session.plan(session.life.closure([found.model.name]), making.forced)
    options = run_options("auto", making.threads, False, making.allow_code)
    verdict = session.run("serve", plan, options, Output(is_quiet=speaking.is_quiet))
    if verdict.exit_code:
        return Output(as_json=speaking.as_json).finish(verdict)
    folder = next(step.folder for step in verdict.steps if step.step == found.model.name)
    assert folder is not None
    return _Made(OneModel(model_name(session.recipe.name), Path(folder) / GRAPH), found.settings)
