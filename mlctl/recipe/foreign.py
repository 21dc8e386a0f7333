"""A recipe for a model that was made elsewhere: another recipe's data, and the file in place of what is trained."""

import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlctl.recipe.head import LONGEST_NAME
from mlctl.recipe.loading import Examined, examine_tree, read_recipe
from mlctl.recipe.tree import Entry, Node, Place, collection
from mlctl.recipe.vocabulary import STAGE_SETTINGS
from mlctl.recipe.wording import listed

KEPT_STAGE = "prepare"


@dataclass(frozen=True)
class Foreign:
    """An ONNX file, and the stages that it goes through, `export` first."""

    model: Path
    stages: tuple[str, ...]


def examine_foreign(data: Path, foreign: Foreign, overrides: Sequence[str] = ()) -> Examined:
    """The recipe at `data` with its prepare steps alone, then one step for each stage of `foreign`.

    It is named after the model's file, so that its steps are not taken for the data recipe's; gates and other steps of
    that recipe are left out, unread. Raises what `examine_recipe` raises; problems in the data recipe stand at their
    place in it, those of overrides name the override.
    """
    examined = examine_tree(data, _with_model(read_recipe(data), foreign), overrides)
    known = (KEPT_STAGE, *foreign.stages)
    added = tuple(
        examined.recipe.problem((step.name,), f"a model from elsewhere goes through {listed(known)} alone")
        for step in examined.recipe.steps
        if step.stage not in known
    )
    return replace(examined, problems=(*examined.problems, *added))


def _with_model(tree: Node, foreign: Foreign) -> Node:
    place = Place(0, 0, f"--from {foreign.model}")
    # A key that is no stage is kept, for it is a mistake to be told.
    kept = {key: entry for key, entry in _entries(tree).items() if key != "gates" and not _is_left_out(key)}
    kept["name"] = _scalar(place, _name(foreign.model))
    for stage in foreign.stages:
        # Not resolved: a link's own folder is where its external data may lie.
        model = os.path.abspath(foreign.model)  # noqa: PTH100
        settings = {"from": _scalar(place, model)} if stage == "export" else {}
        kept[stage] = Entry(place, collection(place, settings))
    return collection(tree.place, kept)


def _entries(tree: Node) -> Mapping[str, Entry]:
    return tree.value if isinstance(tree.value, Mapping) else {}


def _is_left_out(key: str) -> bool:
    stage = key.partition(".")[0]
    return stage in STAGE_SETTINGS and stage != KEPT_STAGE


def _scalar(place: Place, text: str) -> Entry:
    return Entry(place, Node(place, text))


def _name(model: Path) -> str:
    """The file's name as a recipe's name: `Net (1).onnx` becomes `net--1-.onnx`; of `a/model.onnx`, `a-model.onnx`."""
    said = f"{model.resolve().parent.name}-{model.name}" if model.name == "model.onnx" else model.name
    plain = re.sub(r"[^a-z0-9._-]", "-", said.lower()).lstrip("._-")
    return plain[-LONGEST_NAME:].lstrip("._-") or "model.onnx"
