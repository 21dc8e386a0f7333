"""What `export` and `quantize` are asked for: a recipe, or a file that was made elsewhere; and where the model goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlctl.cli.session import Session
from mlctl.engine.failures import system_refusals
from mlctl.engine.verdict import FollowersVerdict, Verdict
from mlctl.errors import UsageError
from mlctl.recipe.foreign import Foreign
from mlctl.recipe.wiring import is_model_file
from mlctl.stages.artifacts import OnnxModel


@dataclass(frozen=True)
class Asked:
    """A recipe's file, and the ONNX file that goes through stages with its data, if one does.

    `overrides` are those that stood where a recipe would.
    """

    recipe: Path
    foreign: Foreign | None = None
    overrides: tuple[str, ...] = ()

    def session(self, overrides: Sequence[str], store: Path | None) -> Session:
        """The session of this run."""
        return Session(self.recipe, tuple(overrides), store, self.foreign)


def asked_for(stage: str, recipe: Path | None, model: Path | None, data: Path | None) -> Asked:
    """What the arguments of the command `stage` ask for. Raises UsageError where they do not go together."""
    if model is None:
        return Asked(_recipe_alone(stage, recipe, data))
    # Where `--from` stands, no recipe is due, and the first KEY=VALUE comes in its place.
    override = str(recipe) if recipe is not None else ""
    if override and "=" not in override:
        raise UsageError(
            f"{stage} takes a recipe or `--from FILE`, not both", where=recipe, next="name the recipe after `--data`"
        )
    if data is None:
        raise UsageError(
            "ranges and parity need real rows, and random data prove nothing",
            where=model,
            next=f"name a recipe that prepares them: `mlctl {stage} --from {model} --data recipe.yaml`",
        )
    if not is_model_file(model.name):
        raise UsageError("`--from` takes an ONNX file", where=model, next="give a file whose name ends in .onnx")
    stages = ("export",) if stage == "export" else ("export", stage)
    return Asked(data, Foreign(model, stages), (override,) if override else ())


def _recipe_alone(stage: str, recipe: Path | None, data: Path | None) -> Path:
    if recipe is None:
        next_step = f"`mlctl {stage} recipe.yaml`, or `mlctl {stage} --from model.onnx --data recipe.yaml`"
        raise UsageError(f"{stage} takes a recipe or `--from FILE`; neither is here", next=next_step)
    if data is not None:
        raise UsageError("`--data` goes with `--from`; a recipe has its own data", where=recipe, next="leave it out")
    return recipe


@dataclass(frozen=True)
class HandOut:
    """The one step whose model is copied to the file `into`."""

    step: str
    into: Path

    @classmethod
    def planned(cls, session: Session, stage: str, into: Path) -> "HandOut":
        """Raises UsageError before anything runs where the file cannot be written, or several models could be meant."""
        names = [step.name for step in session.life.steps if step.stage.name == stage]
        if len(names) > 1:
            what = f"the recipe has several {stage} steps: {', '.join(names)}"
            raise UsageError(
                what, where=session.path, next="leave `--output` out: `mlctl show RECIPE` says where they lie"
            )
        if into.is_dir() or not into.parent.is_dir():
            raise UsageError("no file can be written there", where=into, next="name a file in a folder that is there")
        if session.foreign and _is_the_same(into, session.foreign.model):
            raise UsageError("this is the file that `--from` reads", where=into, next="name another `--output FILE`")
        return cls(names[0] if names else stage, into)

    def carry_out(self, verdict: Verdict) -> None:
        """Copy the model; nothing where a step or a gate failed, or where another process does it."""
        if verdict.exit_code or isinstance(verdict, FollowersVerdict):
            return
        from mlctl.stages.handing_out import hand_out

        folder = next(step.folder for step in verdict.steps if step.step == self.step)
        assert folder  # a run without a failure made every step that it was asked for
        with system_refusals(self.into.parent):
            hand_out(OnnxModel(Path(folder)), self.into)


def _is_the_same(into: Path, model: Path) -> bool:
    return into.exists() and model.exists() and into.samefile(model)
