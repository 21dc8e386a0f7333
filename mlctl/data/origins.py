"""Which files a prepare step reads. Standard library only: the plan asks before anything heavy may load."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mlctl.data.locations import Location, names_archive
from mlctl.data.origin import Origin
from mlctl.data.sources import source_of
from mlctl.errors import DataError, UsageError
from mlctl.recipe.prepare import SPLITS, DataSettings, RowData, SplitByFiles


@dataclass(frozen=True)
class Found:
    """One location of a recipe: the split whose files it names, if it does, and what lies there.

    `paths` are files, or one folder; none for what is still to be fetched.
    """

    location: Location
    split: str | None
    paths: tuple[Path, ...]


def source_files(settings: DataSettings, base: Path) -> tuple[Path, ...]:
    """Every file on this disk that the step reads, each once, sorted; `base` is the folder of the recipe.

    An archive is one file. What is fetched is not among them: the settings pin it. Raises DataError for a source that
    matches nothing, files that no kind of source knows or of several kinds, and a file that is named for two splits;
    UsageError for a location that cannot be.
    """
    archives: list[Path] = []
    plain: list[Origin] = []
    for each in found(settings, base):
        for path in each.paths:
            if opens_archive(each.location, path):
                archives.append(path)
            else:
                plain.extend(origins_at(path, each.split))
    check_disjoint(plain)
    if isinstance(settings, RowData) and plain:
        plain = [*source_of(plain)[1]]
    return tuple(sorted({*archives, *(origin.path for origin in plain)}))


def found(settings: DataSettings, base: Path) -> tuple[Found, ...]:
    """Every location in the recipe's order, split by split. Raises as `source_files`, but looks into no folder."""
    if isinstance(settings.split, SplitByFiles):
        files = settings.split.files
        named = zip(SPLITS, (files.train, files.validation or (), files.test), strict=True)
        return tuple(_found(text, base, split) for split, texts in named for text in texts)
    return tuple(_found(text, base, None) for text in settings.source or ())


def _found(text: str, base: Path, split: str | None) -> Found:
    if _exists(base / text):
        return Found(Location("file", text), split, (base / text,))  # whatever else its name could mean
    location = Location.parse(text)
    if location.is_remote:
        return Found(location, split, ())
    exact = base / location.place
    paths = (exact,) if _exists(exact) else tuple(sorted(_glob(location.place, base)))
    if not paths:
        raise DataError("no file matches this source", where=exact, next="mend the path; it is read beside the recipe")
    return Found(location, split, paths)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # no file has a name so long, but an address can


def _glob(pattern: str, base: Path) -> Iterator[Path]:
    anchor = Path(pattern).anchor
    start, relative = (Path(anchor), pattern.removeprefix(anchor)) if anchor else (base, pattern)
    shows_hidden = Path(pattern).name.startswith(".")
    try:
        matches = tuple(start.glob(relative))
    except ValueError as error:
        what = f"this is no glob: {error}"
        raise UsageError(what, where=pattern, next="`**` stands alone between slashes") from error
    return (path for path in matches if shows_hidden or not path.name.startswith("."))


def opens_archive(location: Location, path: Path) -> bool:
    """Whether a file of the location is opened as an archive."""
    return location.members is not None or (names_archive(path.name) and not path.is_dir())


def origins_at(path: Path, split: str | None) -> Iterator[Origin]:
    """The file itself, or every file below a folder, sorted, but those in hidden folders and hidden ones.

    Raises DataError for a folder without files.
    """
    if not path.is_dir():
        yield Origin(path, split)
        return
    files = [(each, each.relative_to(path)) for each in path.rglob("*") if each.is_file()]
    shown = [(file, inner) for file, inner in files if not any(name.startswith(".") for name in inner.parts)]
    if not shown:
        raise DataError("the folder holds no files", where=path, next="mend the path; it is read beside the recipe")
    for file, inner in sorted(shown):
        yield Origin(file, split, inner=inner, listed_in=str(path))


def in_order(found: Iterable[Origin]) -> tuple[Origin, ...]:
    """The files of one split in the order of reading, by their names; each once."""
    by_name = {origin.name: origin for origin in found}
    return tuple(by_name[name] for name in sorted(by_name, key=PurePath))


def check_disjoint(found: Sequence[Origin]) -> None:
    """Raise DataError for a file that two splits share."""
    if len({origin.split for origin in found}) < 2:
        return
    seen: dict[Path, str | None] = {}
    for origin in found:
        other = seen.setdefault(origin.path.resolve(), origin.split)
        if other != origin.split:
            raise DataError(
                f"the file is named for two splits, {other} and {origin.split}",
                where=origin.name,
                next="name it once; what is learnt from cannot measure",
            )
