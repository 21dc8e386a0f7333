"""`mlctl serve` from its arguments to its server: a recipe is made first, as far as it is not there yet."""

import os
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
    target, making = _told_apart(target, making)
    _require_one(target)
    if target.place is not None and target.place.suffix in (".yaml", ".yml"):
        made = _made(target.place, making, speaking)
        if isinstance(made, int):
            return made
        what: OneModel | Path = made.model
        settings = server_settings(flags, made.asked, target.place.parent)
    else:
        _require_no_steps(target, making)
        what, settings = target.repository or _file(target.place), server_settings(flags, _asked(making))
    if isinstance(what, OneModel) and target.name:
        what = replace(what, name=target.name)
    if is_selftest:
        from mlctl.cli.selftest_view import show_proofs
        from mlctl.stages.proving import prove

        return show_proofs(prove(what, settings), as_json=speaking.as_json)
    return serve(what, settings, as_json=speaking.as_json, is_quiet=speaking.is_quiet)


def _told_apart(target: Target, making: Making) -> tuple[Target, Making]:
    """The same, where the first KEY=VALUE beside a repository was taken for what is to be served."""
    if target.repository is None or target.place is None or "=" not in str(target.place):
        return target, making
    return replace(target, place=None), replace(making, overrides=(str(target.place), *making.overrides))


def _require_no_steps(target: Target, making: Making) -> None:
    """Raise UsageError for an option that is about the steps of a recipe, of which there is none."""
    served = "a file" if target.repository is None else "a repository"
    # What the environment says is for all commands.
    is_store_said = making.store is not None and str(making.store) != os.environ.get("MLCTL_STORE")
    options = {
        "--step": making.step is not None,
        "--force": bool(making.forced),
        "--store": is_store_said,
        "--threads": making.threads is not None,
        "--allow-code": making.allow_code,
    }
    for option in (option for option, is_said in options.items() if is_said):
        instead = "; `--workers` and `--intra-op-threads` are the server's own" if option == "--threads" else ""
        raise UsageError(
            f"`{option}` says how the steps of a recipe are made, and {served} has none",
            next=f"leave `{option}` out, or name a recipe{instead}",
        )
    if target.repository is not None and target.name is not None:
        raise UsageError(
            "`--name` calls the one model of a recipe or a file, and the models of a repository have their names",
            next="leave `--name` out",
        )


def _asked(making: Making) -> "ServeSettings | None":
    """What KEY=VALUE says where there is no recipe. Raises RecipeError, and UsageError for a step to serve."""
    if not making.overrides:
        return None
    # A server that is told nothing in this way starts without pydantic.
    from mlctl.recipe.loading import lone_settings
    from mlctl.recipe.serve import ServeSettings

    settings = lone_settings("serve", making.overrides)
    assert isinstance(settings, ServeSettings)
    if settings.from_ is not None:
        raise UsageError("`serve.from` names a step of a recipe, and there is none", next="leave `serve.from` out")
    return settings


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


def _file(place: Path | None) -> OneModel:
    """The graph that is named, or that lies in the folder that is named."""
    assert place is not None
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
