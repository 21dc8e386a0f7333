"""What a model file or an artifact is: a graph or weights, and the manifest beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlctl.engine.manifest import FILE_NAME as MANIFEST
from mlctl.engine.manifest import Input, Manifest
from mlctl.errors import ArtifactDamaged, UsageError

if TYPE_CHECKING:
    from mlctl.graphs.description import GraphDescription
    from mlctl.models.weights_inspection import WeightsInspection

GRAPH: Final = "model.onnx"
WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class Lineage:
    """What the manifest beside a model says of its origin."""

    step: str
    stage: str
    recipe: str
    fingerprint: str
    made: str
    """UTC, ISO 8601."""
    host: str
    mlctl: str
    inputs: tuple[Input, ...]
    versions: dict[str, str]
    choices: dict[str, str]


@dataclass(frozen=True)
class ModelDescription:
    """A model: its file, what is in it (`graph` or `weights`), and where it came from.

    `lineage` is None where no manifest lies beside the file; `lineage_note` says why one that does is not believed.
    """

    path: str
    graph: "GraphDescription | None"
    weights: "WeightsInspection | None"
    lineage: Lineage | None
    lineage_note: str


def model_file(place: Path) -> Path:
    """The ONNX or safetensors file that `place` names: the file itself, or the one in that folder.

    Raises UsageError where there is none.
    """
    if place.is_dir():
        for name in (GRAPH, WEIGHTS):
            if (place / name).is_file():
                return place / name
        raise UsageError(
            f"the folder holds neither {GRAPH} nor {WEIGHTS}",
            where=place,
            next="name a model file, or the folder of a step that made a model (`mlctl show RECIPE` lists them)",
        )
    if not place.is_file():
        raise UsageError("there is no such file or folder", where=place, next="check the path")
    if place.suffix not in (".onnx", ".safetensors"):
        raise UsageError(
            "the name ends neither in .onnx nor in .safetensors", where=place, next="name a model file, or its folder"
        )
    return place


def describe_model(place: Path, *, open_size: int) -> ModelDescription:
    """The model at `place`; `open_size` is what open dimensions beside the batch are taken to be.

    Raises UsageError where there is no model, DataError for a file that is not one.
    """
    path = model_file(place)
    lineage, note = lineage_of(path)
    if path.suffix == ".safetensors":
        from mlctl.models.weights_inspection import inspect_weights

        return ModelDescription(str(path), None, inspect_weights(path), lineage, note)
    from mlctl.graphs.description import describe

    graph = describe(path, open_size=open_size)
    return ModelDescription(str(path), graph, None, lineage, note)


def lineage_of(path: Path) -> tuple[Lineage | None, str]:
    """What the manifest beside the model file says; or None, and why it is not believed where there is one."""
    folder = path.parent
    if not (folder / MANIFEST).is_file():
        return None, ""
    try:
        manifest = Manifest.load(folder)
    except ArtifactDamaged as error:
        return None, f"{folder / MANIFEST}: {error.what}"
    if path.name not in {each.path for each in manifest.files}:
        return None, f"{folder / MANIFEST}: it does not speak of {path.name}"
    made = manifest.made
    lineage = Lineage(
        step=manifest.step,
        stage=manifest.stage,
        recipe=made.recipe,
        fingerprint=manifest.fingerprint,
        made=made.started,
        host=made.host,
        mlctl=made.mlctl,
        inputs=manifest.inputs,
        versions=dict(made.versions),
        choices=dict(made.choices),
    )
    return lineage, ""
