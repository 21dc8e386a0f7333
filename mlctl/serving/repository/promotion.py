"""Labels move: forward to a version that is whole, and back to where they pointed before."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlctl.errors import ArtifactDamaged, UsageError
from mlctl.serving.repository import labels
from mlctl.serving.repository.names import PRODUCTION, require_label
from mlctl.serving.repository.publishing import alone, point, settle_config
from mlctl.serving.repository.repository import Repository


@dataclass(frozen=True)
class Moved:
    """Where a label points now, and where it did."""

    name: str
    label: str
    version: int
    before: int | None
    has_config: bool
    """Whether `config.pbtxt` is ours, and speaks of the live version."""


def promote(
    repository: Repository, name: str, version: int, label: str = PRODUCTION, *, on_wait: Callable[[], None]
) -> Moved:
    """Let the label point to the version, after all of its files were read again.

    Raises UsageError for what cannot be a label, DataError where there is no such version, ArtifactDamaged where it is
    not what was published, and OSError; then the label stays where it is.
    """
    require_label(label)
    repository.folder(name, version)
    with alone(repository.model_folder(name), on_wait):
        current = repository.labels(name).get(label)
        _require_whole(repository, name, version, label, {*repository.versions(name)} - {version, current})
        before = point(repository, name, label, version)
        return Moved(name, label, version, before, settle_config(repository, name))


def roll_back(repository: Repository, name: str, label: str = PRODUCTION, *, on_wait: Callable[[], None]) -> Moved:
    """Let the label point to where it pointed before, as history tells; again, and it goes back further.

    Versions that are not there any more are passed over. Raises UsageError where the label has pointed nowhere before,
    and what `promote` raises.
    """
    require_label(label)
    folder = repository.model_folder(name)
    with alone(folder, on_wait):
        current = repository.labels(name).get(label)
        way = labels.pointed(label, repository.history(name), current)
        there = set(repository.versions(name))
        earlier = [version for version in way[:-1] if version in there and version != current]
        if current is None or not earlier:
            raise _nowhere_to_go(name, label, current)
        _require_whole(repository, name, earlier[-1], label, there - {earlier[-1], current})
        point(repository, name, label, earlier[-1], is_back=True)
        return Moved(name, label, earlier[-1], current, settle_config(repository, name))


def _require_whole(repository: Repository, name: str, version: int, label: str, others: Iterable[int]) -> None:
    """Read all files of the version. Raises ArtifactDamaged, with the newest of `others` that is whole as a way out."""
    try:
        repository.open_version(name, version)
    except ArtifactDamaged as error:
        whole = next((each for each in sorted(others, reverse=True) if _is_whole(repository, name, each)), None)
        instead = f"`mlctl promote {name}@{whole} --as {label}` takes one that is whole, and " if whole else ""
        raise ArtifactDamaged(
            error.what,
            where=error.where,
            next=f"{label} stays where it is; {instead}`mlctl publish RECIPE --to REPOSITORY --again` writes it anew",
        ) from error


def _is_whole(repository: Repository, name: str, version: int) -> bool:
    try:
        repository.open_version(name, version)
    except ArtifactDamaged:
        return False
    return True


def _nowhere_to_go(name: str, label: str, current: int | None) -> UsageError:
    what = f"{label} was never set" if current is None else f"{label} pointed nowhere before version {current}"
    return UsageError(
        f"{name}: {what}, so there is nothing to go back to",
        next=f"`mlctl promote {name}@VERSION --as {label}` lets it point to a version that `mlctl models` lists",
    )
