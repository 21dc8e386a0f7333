"""A version comes into a repository: written aside, forced to disk, and renamed to the next number."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlctl import __version__
from mlctl.digests import file_digest
from mlctl.engine.lineage import now
from mlctl.engine.locks import exclusive
from mlctl.engine.manifest import StoredFile, stored_files
from mlctl.engine.store import flush
from mlctl.errors import ArtifactDamaged, DataError
from mlctl.serving.repository import history, labels
from mlctl.serving.repository.history import Event, happened, this_user
from mlctl.serving.repository.names import require_label, require_model_name
from mlctl.serving.repository.record import (
    CLASSES,
    FigureRecord,
    GateRecord,
    GoldenRecord,
    PortRecord,
    VersionRecord,
)
from mlctl.serving.repository.repository import Repository
from mlctl.serving.repository.triton_config import write_config
from mlctl.serving.repository.writing import aside, flush_folder, sweep

if TYPE_CHECKING:
    from mlctl.serving.repository.golden import Golden

LOCK: Final = ".lock"


@dataclass(frozen=True)
class Candidate:
    """What is to become a version: a graph with everything that is known of it."""

    name: str
    files: tuple[Path, ...]
    """`model.onnx`, and what belongs to it; all in one folder."""
    digests: tuple[StoredFile, ...]
    """Of those files, as they were made."""
    recipe: str
    step: str
    stage: str
    fingerprint: str
    made: str
    task: str
    labels: tuple[str, ...]
    inputs: tuple[PortRecord, ...]
    outputs: tuple[PortRecord, ...]
    max_batch: int
    gates: tuple[GateRecord, ...]
    figures: tuple[FigureRecord, ...]
    golden: "Callable[[], tuple[Golden, str]]"
    """Records golden requests, and says where their tolerance comes from."""


@dataclass(frozen=True)
class Published:
    """The version that a candidate came to."""

    name: str
    version: int
    folder: Path
    is_new: bool
    """Whether it was not there before."""
    labels: tuple[str, ...]
    """All that point to it now."""
    live: int | None
    """The version that answers whoever names none; None where `production` points to one that is gone."""
    has_config: bool
    """Whether `config.pbtxt` is ours, and speaks of the live version."""


def publish(
    repository: Repository,
    candidate: Candidate,
    as_: Sequence[str] = (),
    *,
    again: bool = False,
    on_wait: Callable[[], None] = lambda: None,
) -> Published:
    """Make a version of the candidate, and let labels point to it.

    The same artifact is not published twice: the version that is there is given, unless `again` asks for another one.
    `on_wait` is called where another process is at work on the model. Raises UsageError for a name or a label that
    cannot be, ArtifactDamaged where a file is not what was made, what `golden` raises, and OSError; then no version is
    seen, and what is left of it goes with the next that is published.
    """
    require_model_name(candidate.name)
    for label in as_:
        require_label(label)
    folder = repository.root / candidate.name
    with alone(folder, on_wait):
        # Labels that cannot be read are refused before anything is written.
        repository.labels(candidate.name)
        number = None if again else _published(repository, candidate)
        is_new = number is None
        if number is None:
            number = _write(folder, candidate)
        told = {event.version for event in history.read(folder) if event.what == "published"}
        if number not in told:
            history.append(folder, [_published_event(candidate, number)])
        for label in as_:
            point(repository, candidate.name, label, number)
        return Published(
            candidate.name,
            number,
            folder / str(number),
            is_new,
            tuple(label for label, version in repository.labels(candidate.name).items() if version == number),
            _live(repository, candidate.name),
            settle_config(repository, candidate.name),
        )


@contextmanager
def alone(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Be the only process that changes the model in this folder; what others left unfinished goes first."""
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / LOCK, on_wait=on_wait):
        sweep(folder)
        yield


def point(repository: Repository, name: str, label: str, version: int, *, is_back: bool = False) -> int | None:
    """Let the label point to the version, and note it; where it pointed before. Only for whoever is alone.

    The label moves first: that is what a server sees, and a move that history does not tell is found there later.
    """
    folder, pointed = repository.model_folder(name), repository.labels(name)
    before = pointed.get(label)
    if before != version:
        labels.write(folder, {**pointed, label: version})
        event = happened("rolled back" if is_back else "promoted", version=version, label=label, before=before)
        history.append(folder, [event])
    return before


def settle_config(repository: Repository, name: str) -> bool:
    """Let `config.pbtxt` speak of the live version, unless it is somebody else's; whether it does."""
    try:
        live = repository.live_version(name)
        record = None if live is None else repository.record(name, live)
    except DataError:
        # Triton goes on with what it was told; who opens the live version hears what is wrong with it.
        return False
    return live is not None and write_config(repository.model_folder(name), name, live, record)


def _live(repository: Repository, name: str) -> int | None:
    try:
        return repository.live_version(name)
    except DataError:
        return None


def _published(repository: Repository, candidate: Candidate) -> int | None:
    """The newest version of the same artifact with the same bytes, if there is one."""
    wanted = _digests(candidate.digests)
    for version in reversed(repository.versions(candidate.name)):
        try:
            record = repository.record(candidate.name, version)
        except ArtifactDamaged:
            continue
        if record and record.fingerprint == candidate.fingerprint and _digests(record.model_files) == wanted:
            return version
    return None


def _digests(files: Sequence[StoredFile]) -> set[tuple[str, str]]:
    return {(each.path, each.sha256) for each in files}


def _write(folder: Path, candidate: Candidate) -> int:
    """Write the version; its number."""
    # A folder that holds no model, or leads elsewhere, takes its number all the same.
    taken = [int(each.name) for each in folder.iterdir() if each.name.isascii() and each.name.isdecimal()]
    number = max(taken, default=0) + 1
    unfinished = aside(folder, str(number))
    try:
        unfinished.mkdir()
        _fill(unfinished, number, candidate)
        unfinished.rename(folder / str(number))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush_folder(folder)
    return number


def _fill(folder: Path, number: int, candidate: Candidate) -> None:
    for path in candidate.files:
        shutil.copyfile(path, folder / path.name)
    copied = stored_files(folder)
    for wanted, found in zip(sorted(candidate.digests, key=lambda each: each.path), copied, strict=True):
        if wanted != found:
            raise ArtifactDamaged(
                "the file has other bytes than were made", where=candidate.files[0].parent / wanted.path
            )
    golden, why = candidate.golden()
    golden.save(folder)
    if candidate.labels and not any("\n" in label or not label for label in candidate.labels):
        (folder / CLASSES).write_text("\n".join(candidate.labels) + "\n", encoding="utf-8")
    record = VersionRecord(
        name=candidate.name,
        version=number,
        published=now(),
        who=this_user(),
        recipe=candidate.recipe,
        step=candidate.step,
        stage=candidate.stage,
        fingerprint=candidate.fingerprint,
        made=candidate.made,
        mlctl=__version__,
        task=candidate.task,
        labels=candidate.labels,
        inputs=candidate.inputs,
        outputs=candidate.outputs,
        max_batch=candidate.max_batch,
        gates=candidate.gates,
        figures=candidate.figures,
        golden=GoldenRecord(len(golden.requests), golden.tolerance, why),
        files=tuple(sorted((*copied, *_beside(folder, copied)), key=lambda each: each.path)),
    )
    record.save(folder)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode & 0o444)
    flush(folder)
    flush_folder(folder)


def _beside(folder: Path, known: Sequence[StoredFile]) -> Iterator[StoredFile]:
    """The files of the folder that are not known; a large model is not read once more."""
    names = {each.path for each in known}
    for path in folder.iterdir():
        if path.name not in names:
            yield StoredFile(path.name, file_digest(path), path.stat().st_size)


def _published_event(candidate: Candidate, number: int) -> Event:
    return happened(
        "published",
        version=number,
        fingerprint=candidate.fingerprint,
        recipe=candidate.recipe,
        step=candidate.step,
        verdict=gates_text(candidate.gates),
    )


def gates_text(gates: Sequence[GateRecord]) -> str:
    """What came of the gates, in words."""
    if not gates:
        return "no gates"
    passed = sum(each.outcome == "passed" for each in gates)
    return f"{passed} of {len(gates)} gates passed"
