"""Where artifacts lie. What is visible in the store is whole."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlctl.digests import file_digest
from mlctl.engine.locks import exclusive, exclusive_if_free
from mlctl.engine.manifest import FILE_NAME, Manifest
from mlctl.errors import ArtifactDamaged, MachineError


@dataclass(frozen=True)
class Artifact:
    """A published folder and its manifest."""

    folder: Path
    manifest: Manifest

    def check_sizes(self) -> None:
        """Raise ArtifactDamaged when a file is missing or has another size than when it was written."""
        for file in self.manifest.files:
            path = self.folder / file.path
            try:
                size = path.stat().st_size
            except OSError as error:
                raise self._damage(path, f"is missing ({error.strerror})") from error
            if size != file.bytes:
                raise self._damage(path, f"has {size:,} bytes where {file.bytes:,} were written")

    def verify(self) -> None:
        """Read every file and raise ArtifactDamaged when one is not what was written."""
        self.check_sizes()
        for file in self.manifest.files:
            path = self.folder / file.path
            try:
                found = file_digest(path)
            except OSError as error:
                raise self._damage(path, f"cannot be read ({error.strerror})") from error
            if found != file.sha256:
                raise self._damage(path, "has other bytes than were written")

    def remade_inputs(self, inputs: Mapping[str, "Artifact"]) -> tuple[str, ...]:
        """The roles of those `inputs` (by role) that are not what this artifact was made from any more."""
        return tuple(
            each.role
            for each in self.manifest.inputs
            if each.role in inputs and inputs[each.role].manifest.content != each.content
        )

    def _damage(self, path: Path, what: str) -> ArtifactDamaged:
        step = self.manifest.step
        return ArtifactDamaged(
            f"{step}: the file {what}", where=path, next=f"`mlctl run RECIPE --force {step}` makes it again"
        )


class Store:
    """A folder of artifacts, each named by its fingerprint.

    ```
    artifacts/FINGERPRINT/   published artifacts, each with its manifest.json
    steps/RECIPE/STEP        a link to the artifact that the step last came to
    work/FINGERPRINT/        private to the process that holds the lock: files/ to be published, resume/, discarded/
    locks/FINGERPRINT        lock files, empty
    gates/DIGEST.json        intervals of gates that were computed
    recipes/DIGEST.json      recipes that used this store, for `mlctl gc`
    sources.json             digests of files outside the store
    ```
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def ledger(self) -> Path:
        """Where a `SourceLedger` keeps what it learnt."""
        return self.root / "sources.json"

    def prepare(self) -> None:
        """Make the folders. Raises MachineError when that is refused."""
        try:
            for name in ("artifacts", "steps", "work", "locks", "gates", "recipes"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise MachineError(
                f"the store cannot be made ({error.strerror})",
                where=self.root,
                next="name a folder that can be written with `--store` or MLCTL_STORE",
            ) from error

    def find(self, fingerprint: str) -> Artifact | None:
        """The artifact, or None when there is none. Raises ArtifactDamaged when its manifest is not its own."""
        folder = self.root / "artifacts" / fingerprint
        if not folder.is_dir():
            return None
        manifest = Manifest.load(folder)
        if manifest.fingerprint != fingerprint:
            raise ArtifactDamaged(f"{manifest.step}: the folder has the name of another artifact", where=folder)
        return Artifact(folder, manifest)

    def artifacts(self) -> Iterator[Path]:
        """The folders of all artifacts, by name."""
        folder = self.root / "artifacts"
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return (each for each in found if each.is_dir())

    @contextmanager
    def locked(self, fingerprint: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Be the only process that makes or takes away this artifact."""
        with exclusive(self.root / "locks" / fingerprint, on_wait=on_wait):
            yield

    @contextmanager
    def locked_if_free(self, fingerprint: str) -> Iterator[bool]:
        """Be that process if no other is; yields whether it is."""
        with exclusive_if_free(self.root / "locks" / fingerprint) as is_held:
            yield is_held

    def scratch(self, fingerprint: str) -> Path:
        """An empty folder for the files, on the store's own disk."""
        folder = self.root / "work" / fingerprint / "files"
        remove(folder)
        folder.mkdir(parents=True)
        return folder

    def resume_folder(self, fingerprint: str) -> Path:
        """The folder that outlives a kill, with what an earlier process left in it."""
        folder = self.root / "work" / fingerprint / "resume"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def can_resume(self, fingerprint: str) -> bool:
        """Whether an earlier process left something to go on from."""
        folder = self.root / "work" / fingerprint / "resume"
        return folder.is_dir() and any(folder.iterdir())

    def publish(self, scratch: Path, manifest: Manifest) -> Artifact:
        """Flush `scratch` to disk, write the manifest last, and rename the folder into place."""
        flush(scratch)
        manifest.save(scratch)
        _flush_file(scratch / FILE_NAME)
        _flush_folder(scratch)
        target = self.root / "artifacts" / manifest.fingerprint
        self.discard(manifest.fingerprint)
        scratch.rename(target)
        _flush_folder(target.parent)
        remove(self.root / "work" / manifest.fingerprint)
        return Artifact(target, manifest)

    def discard(self, fingerprint: str) -> None:
        """Take an artifact away, if it is there: it is out of sight before its files go."""
        folder = self.root / "artifacts" / fingerprint
        if folder.exists():
            aside = self.root / "work" / fingerprint / "discarded"
            remove(aside)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
            remove(aside)

    def drop_scratch(self, fingerprint: str) -> None:
        """Forget the unfinished files, and keep what can be resumed from."""
        remove(self.root / "work" / fingerprint / "files")

    def drop_work(self, fingerprint: str) -> None:
        """Forget what an unfinished step left."""
        remove(self.root / "work" / fingerprint)

    def tidy(self, fingerprint: str) -> None:
        """Remove what a process left behind that was killed just after it had published this artifact."""
        if (self.root / "work" / fingerprint).exists():
            with self.locked_if_free(fingerprint) as is_held:
                if is_held:
                    self.drop_work(fingerprint)

    def link(self, recipe: str, step: str, fingerprint: str) -> None:
        """Let `steps/RECIPE/STEP` lead to the artifact."""
        place = self.root / "steps" / recipe / step
        target = Path("..", "..", "artifacts", fingerprint)
        if place.is_symlink() and place.readlink() == target:
            return
        place.parent.mkdir(exist_ok=True)
        aside = place.with_name(f".{step}.{os.getpid()}")
        aside.unlink(missing_ok=True)
        aside.symlink_to(target)
        aside.replace(place)

    def was_made(self, recipe: str, step: str) -> bool:
        """Whether the step ever came to an artifact, there still or not."""
        return (self.root / "steps" / recipe / step).is_symlink()

    def last_manifest(self, recipe: str, step: str) -> Manifest | None:
        """The manifest that the step last came to, if it is still there and readable."""
        try:
            return Manifest.load(self.root / "steps" / recipe / step)
        except ArtifactDamaged:
            return None


def write_whole(path: Path, text: str) -> None:
    """Write a small file that is seen either whole or not at all."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def remove(folder: Path) -> None:
    """Delete a folder that may be there."""
    if folder.exists():
        shutil.rmtree(folder)


def flush(folder: Path) -> None:
    """Force every file and folder below `folder` to disk."""
    for path in folder.rglob("*"):
        _flush_folder(path) if path.is_dir() else _flush_file(path)


def _flush_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
