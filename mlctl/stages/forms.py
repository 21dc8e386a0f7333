"""Where a model that the command line names lies, and what it was made from; nothing heavy is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlctl.engine.manifest import FILE_NAME as MANIFEST_FILE
from mlctl.engine.manifest import Manifest
from mlctl.engine.store import Artifact, Store
from mlctl.errors import UsageError

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.safetensors"
NAME_THE_DATA = "name the recipe that prepares the data with `--data RECIPE`"


@dataclass(frozen=True)
class Form:
    """One form of a model: the path that was named, the file there, and the manifest beside it, if any."""

    named: Path
    file: Path
    framework: Literal["onnx", "torch"]
    manifest: Manifest | None

    @property
    def folder(self) -> Path:
        """What holds the file."""
        return self.file.parent


def form(path: Path) -> Form:
    """The ONNX graph or trained network at `path`: a file, or a folder, artifact or link that holds one.

    Raises UsageError where there is none, and ArtifactDamaged where a file is not what its manifest says.
    """
    place = path.resolve()
    candidates = (place / GRAPH_FILE, place / WEIGHTS_FILE) if place.is_dir() else (place,)
    found = next((each for each in candidates if each.is_file()), None)
    # Weights are nothing without the config beside them, which knows them by this name.
    if found is None or (found.suffix != ".onnx" and found.name != WEIGHTS_FILE):
        raise UsageError(
            "there is no model here",
            where=path,
            next=f"name an ONNX file or a folder with {GRAPH_FILE} or {WEIGHTS_FILE}, such as .mlctl/steps/RECIPE/STEP",
        )
    manifest = Manifest.load(found.parent) if (found.parent / MANIFEST_FILE).is_file() else None
    if manifest:
        Artifact(found.parent, manifest).verify()
    return Form(path, found, "onnx" if found.suffix == ".onnx" else "torch", manifest)


def code_folder(of: Form) -> Path:
    """Where a user's own network comes from: beside the recipe that made the model."""
    return Path(of.manifest.made.recipe).parent if of.manifest else Path.cwd()


def prepared_for(forms: Sequence[Form]) -> Path:
    """The folder of the prepared data that the first of `forms`, or else the next, was made from, verified.

    Raises UsageError where no manifest leads to any that is still in the store.
    """
    for each in forms:
        if each.manifest and (found := _prepared_above(each.manifest, Store(each.folder.parent.parent))):
            return found.folder
    raise UsageError("no manifest leads from these models to held-out rows that are still there", next=NAME_THE_DATA)


def _prepared_above(made: Manifest, store: Store) -> Artifact | None:
    waiting = [made]
    for manifest in waiting:
        for each in manifest.inputs:
            artifact = store.find(each.fingerprint)
            if artifact and artifact.manifest.stage == "prepare":
                artifact.verify()
                return artifact
            waiting += [artifact.manifest] if artifact else []
    return None
