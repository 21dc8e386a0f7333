"""A recipe's source as files on this disk: what is remote is fetched, archives are opened in a private folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlctl.data.archives import extract, matches
from mlctl.data.locations import Location
from mlctl.data.origin import Origin
from mlctl.data.origins import Found, check_disjoint, found, in_order, opens_archive, origins_at
from mlctl.data.pacing import paced
from mlctl.digests import file_digest
from mlctl.errors import DataError
from mlctl.events import Tell
from mlctl.recipe.prepare import DataSettings


@dataclass(frozen=True)
class _Present:
    """A file or a folder that is on this disk now; `name` is what the recipe calls it."""

    path: Path
    name: str
    split: str | None
    location: Location

    @property
    def is_archive(self) -> bool:
        return opens_archive(self.location, self.path)


def opened_origins(settings: DataSettings, base: Path, staging: Path, tell: Tell) -> tuple[Origin, ...]:
    """Every file of the source, whatever its suffix, in the order of reading: split by split, then by name.

    `base` is the folder of the recipe, `staging` an empty folder of one's own that must stay until the files are read.
    Remote files come from their cache or the network; archives are opened below `staging`. Of a folder, and of an
    archive of which no members are named, every file is given that is not hidden, with `Origin.listed_in` set.
    `Origin.path` is to be opened and `Origin.name` is for messages; `Origin.split` is None where the recipe names no
    split's files.

    Raises UsageError for a location that cannot be, and DataError for one that matches nothing, a digest that
    differs, an archive that is damaged or not safe to open, and a file that two splits share.
    """
    present = [
        each
        for number, one in enumerate(found(settings, base))
        for each in _present(one, staging / f"fetched-{number}", tell)
    ]
    opened = _opened(present, staging, tell)
    by_split: dict[str | None, list[Origin]] = {}
    for each in present:
        by_split.setdefault(each.split, []).extend(_origins(each, opened))
    result = tuple(origin for origins in by_split.values() for origin in in_order(origins))
    check_disjoint(result)
    return result


def _present(one: Found, link: Path, tell: Tell) -> Iterator[_Present]:
    location = one.location
    if location.is_remote:
        fetched = _fetched(location, tell)
        link.mkdir()
        # Kinds of files are told by their names, which a cache need not keep.
        path = link / location.file_name
        path.symlink_to(fetched.resolve())
        yield _Present(path, location.place, one.split, location)
    for path in one.paths:
        if location.sha256 is not None and path.is_file() and file_digest(path) != location.sha256:
            what = "the file's sha256 is another one than the recipe gives"
            raise DataError(what, where=path, next="get the file again, or mend the digest")
        yield _Present(path, str(path), one.split, location)


def _fetched(location: Location, tell: Tell) -> Path:
    if location.scheme == "hf":
        from mlctl.data.hub import fetch_hub

        return fetch_hub(location.hub_file(), tell)
    from mlctl.data.downloads import fetch_url

    return fetch_url(location.place, location.sha256 or "", tell)


def _opened(present: Sequence[_Present], staging: Path, tell: Tell) -> dict[Path, dict[str, Path]]:
    """Every archive, read once, whatever the number of locations that name it: paths by members' names."""
    archives: dict[Path, list[_Present]] = {}
    for each in present:
        if each.is_archive:
            archives.setdefault(each.path.resolve(), []).append(each)
    opened = {}
    for number, (path, uses) in enumerate(archives.items()):
        patterns = list(dict.fromkeys(each.location.members for each in uses))
        into = staging / f"opened-{number}"
        opened[path] = extract(path, uses[0].name, patterns, into, paced(tell, "unpack", path.stat().st_size))
    return opened


def _origins(each: _Present, opened: dict[Path, dict[str, Path]]) -> Iterator[Origin]:
    if not each.is_archive:
        for origin in origins_at(each.path, each.split):
            yield origin if each.name == str(each.path) else Origin(origin.path, each.split, alias=each.name)
        return
    pattern = each.location.members
    for member, path in opened[each.path.resolve()].items():
        inner = PurePosixPath(member)
        if matches(inner, pattern):
            listed_in = each.name if pattern is None else ""
            yield Origin(path, each.split, alias=f"{each.name}!{member}", inner=inner, listed_in=listed_in)
