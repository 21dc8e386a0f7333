"""A repository of models as a server reads it: `<model>/<version>/model.onnx`, as Triton does.

```
<model>/config.pbtxt          what Triton is told
<model>/labels.json           labels that move: {"production": 3}
<model>/history.jsonl         what became of the model
<model>/3/model.onnx          a version, which never changes; model.onnx.data and tokenizer.json where it has them
<model>/3/mlctl.json          what is known of it, and the digest of every file
<model>/3/golden.safetensors  golden requests
```

Versions that were put there by hand have `model.onnx` alone, and are served too. Nothing outside of the repository is
read. numpy is imported for golden requests alone.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.digests import file_digest
from mlctl.engine.manifest import StoredFile
from mlctl.errors import ArtifactDamaged, DataError
from mlctl.serving.repository import history, labels
from mlctl.serving.repository.names import PRODUCTION, is_model_name, is_version
from mlctl.serving.repository.record import FILE_NAME, GRAPH, NEXT, TOKENIZER, VersionRecord

if TYPE_CHECKING:
    from mlctl.serving.repository.golden import Golden


@dataclass(frozen=True)
class Stamp:
    """Another one whenever a model's labels or versions are others."""

    labels: bytes
    versions: tuple[tuple[int, int, int], ...]
    """Number, inode and time of change of every version's folder."""


@dataclass(frozen=True)
class Version:
    """A version whose files are those that were published, as far as that is known."""

    name: str
    number: int
    folder: Path
    record: VersionRecord | None
    """None for one that was put there by hand."""
    golden: "Golden | None"

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return self.folder / GRAPH

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer's file, if the model reads text."""
        path = self.folder / TOKENIZER
        return path if (self.record.has(TOKENIZER) if self.record else path.is_file()) else None


class Repository:
    """A folder of models."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> tuple[str, ...]:
        """The models that have a version, sorted. Raises DataError where the folder cannot be read."""
        try:
            found = sorted(each.name for each in os.scandir(self.root) if is_model_name(each.name) and each.is_dir())
        except OSError as error:
            raise DataError(
                f"the repository cannot be read ({error.strerror})",
                where=self.root,
                next="name the folder that `mlctl publish RECIPE --to FOLDER` wrote to",
            ) from error
        return tuple(name for name in found if self.versions(name))

    def versions(self, name: str) -> tuple[int, ...]:
        """The numbers of the model's versions, ascending; none where there is no such model."""
        folder = self._model_folder(name)
        found = self._numbered(folder) if folder else iter(())
        return tuple(sorted(int(each.name) for each in found if _holds_a_model(Path(each.path))))

    def labels(self, name: str) -> dict[str, int]:
        """The version of every label. Raises ArtifactDamaged where `labels.json` cannot be read."""
        folder = self._model_folder(name)
        return labels.read(folder) if folder and self._is_inside(folder / labels.FILE_NAME) else {}

    def live_version(self, name: str) -> int | None:
        """The version for whoever names none: the one labelled `production`, else the newest; None without versions.

        Raises DataError where the label points to a version that is not there, ArtifactDamaged where the labels cannot
        be read.
        """
        versions = self.versions(name)
        if not versions:
            return None
        live = self.labels(name).get(PRODUCTION, versions[-1])
        if live not in versions:
            raise DataError(
                f"{PRODUCTION} points to version {live}, which is not there",
                where=self.root / name,
                next=f"`mlctl promote {name}@{versions[-1]}` lets it point to one that is",
            )
        return live

    def model_folder(self, name: str) -> Path:
        """Where the model lies. Raises DataError where there is no such model, or it lies elsewhere."""
        folder = self._model_folder(name)
        if folder is None:
            raise DataError(
                f"there is no model {name!r} here", where=self.root, next="`mlctl models` lists the models and versions"
            )
        return folder

    def folder(self, name: str, version: int) -> Path:
        """Where the version lies. Raises DataError where there is no such version."""
        if version not in self.versions(name):
            raise DataError(
                f"there is no version {version} of {name!r} here",
                where=self.root,
                next="`mlctl models` lists the models and versions",
            )
        return self.root / name / str(version)

    def stamp(self, name: str) -> Stamp:
        """What the model's labels and versions are, told by a look at its folder; nothing is raised."""
        folder = self._model_folder(name)
        if folder is None:
            return Stamp(b"", ())
        found = []
        for each in self._numbered(folder):
            with suppress(OSError):
                status = each.stat()
                found.append((int(each.name), status.st_ino, status.st_mtime_ns))
        content = b""
        if self._is_inside(folder / labels.FILE_NAME):
            with suppress(OSError):
                content = (folder / labels.FILE_NAME).read_bytes()
        return Stamp(content, tuple(sorted(found)))

    def history(self, name: str) -> tuple[history.Event, ...]:
        """What became of the model, the oldest first. Raises DataError for a model that there is not."""
        folder = self.model_folder(name)
        self._require_inside(folder / history.FILE_NAME)
        return history.read(folder)

    def record_refusal(self, name: str, version: int | None, why: str, who: str = "") -> None:
        """Note in the history why a version was not taken; a repository that nobody may write to stays as it is."""
        folder = self._model_folder(name)
        if folder and self._is_inside(folder / history.FILE_NAME):
            with suppress(OSError):
                history.append(folder, [history.happened("refused", who, version=version, why=why)])

    def record(self, name: str, version: int) -> VersionRecord | None:
        """What is known of the version; None for one that was put there by hand. Its files are not read.

        Raises DataError where there is no such version, ArtifactDamaged where its record is not what was written.
        """
        folder = self.folder(name, version)
        if not os.path.lexists(folder / FILE_NAME):
            return None
        self._require_inside(folder / FILE_NAME)
        return VersionRecord.load(folder)

    def open_version(self, name: str, version: int) -> Version:
        """The version, after every file was read and found to be the one that was published.

        Of one that was put there by hand nothing is known to compare; ONNX Runtime itself refuses external data that
        lie elsewhere. Raises DataError where there is no such version, ArtifactDamaged for a file that is missing, is
        another, or lies elsewhere.
        """
        folder, record = self.folder(name, version), self.record(name, version)
        for each in (GRAPH, TOKENIZER):
            self._require_inside(folder / each)
        if record is None:
            return Version(name, version, folder, None, None)
        for file in record.files:
            self._verify(folder / file.path, file)
        # A version that was put there by hand has none, and numpy takes a tenth of a second.
        from mlctl.serving.repository.golden import Golden

        return Version(name, version, folder, record, Golden.load(folder))

    def _verify(self, path: Path, file: StoredFile) -> None:
        self._require_inside(path)
        try:
            size = path.stat().st_size
            if size != file.bytes:
                raise ArtifactDamaged(
                    f"the file has {size:,} bytes where {file.bytes:,} were published", where=path, next=NEXT
                )
            if file_digest(path) != file.sha256:
                raise ArtifactDamaged("the file has other bytes than were published", where=path, next=NEXT)
        except OSError as error:
            raise ArtifactDamaged(f"the file cannot be read ({error.strerror})", where=path, next=NEXT) from error

    def _model_folder(self, name: str) -> Path | None:
        if not is_model_name(name):
            return None
        folder = self.root / name
        return folder if folder.is_dir() and self._is_inside(folder) else None

    def _numbered(self, folder: Path) -> Iterator["os.DirEntry[str]"]:
        """The entries of a model's folder that are called as versions are."""
        with suppress(OSError), os.scandir(folder) as entries:
            for each in entries:
                if is_version(each.name) and (not each.is_symlink() or self._is_inside(Path(each.path))):
                    yield each

    def _is_inside(self, path: Path) -> bool:
        """Whether the entry of a folder that is inside does not lead out itself."""
        try:
            return not path.is_symlink() or path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):
            return False

    def _require_inside(self, path: Path) -> None:
        if not self._is_inside(path):
            raise ArtifactDamaged(
                "this leads out of the repository, and nothing outside of it is read",
                where=path,
                next="put the file itself there",
            )


def _holds_a_model(folder: Path) -> bool:
    """Whether there is a graph, or one that leads elsewhere or is gone, so that somebody hears of it."""
    return (folder / GRAPH).is_file() or (folder / GRAPH).is_symlink() or (folder / FILE_NAME).is_file()
