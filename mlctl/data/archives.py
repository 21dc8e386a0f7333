"""Archives, opened within a folder: how many files they hold, how large and called what, is checked first."""

from collections.abc import Callable, Iterable, Sequence
from errno import ENAMETOOLONG
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NoReturn

from mlctl.data.archive_members import Member, members
from mlctl.errors import DataError

MOST_FILES = 100_000
"""Entries of an archive, folders counted."""
MOST_BYTES = 64 << 30
"""Bytes of an archive's files in all."""

_CHUNK = 1 << 20
_SHOWN = 5
_DISTRUST = "do not use this archive; ask whoever made it for another"


def extract(
    path: Path,
    name: str,
    patterns: Sequence[str | None],
    into: Path,
    tell_position: Callable[[int], None] = lambda position: None,
) -> dict[str, Path]:
    """Write the archive's files that match a pattern below the folder `into`; gives their paths by their names.

    A pattern is a glob over names: `*` stays within one folder, `**` is any number of folders; None stands for every
    file. Hidden files match only where the pattern begins so. Messages call the archive `name`.

    Raises DataError, before anything of a file is written, for one that would leave the folder, is no plain file or
    has another one's name, and for more than 100,000 entries or 64 GiB; for a damaged archive, and for a pattern that
    matches nothing.
    """
    intake = _Intake(name, into)
    found: dict[str, Path] = {}
    for member in members(path, name):
        place = intake.admitted(member)
        if place is not None and any(matches(place, pattern) for pattern in patterns):
            found[str(place)] = intake.write(member, place)
        tell_position(member.position)
    for pattern in patterns:
        if not any(matches(PurePosixPath(each), pattern) for each in found):
            _nothing(name, pattern, intake.names)
    return found


def matches(member: PurePosixPath, pattern: str | None) -> bool:
    """Whether a member's name matches a glob, or is not hidden where there is none."""
    if pattern is None:
        return not any(part.startswith(".") for part in member.parts)
    parts = PurePosixPath(pattern).parts
    shows_hidden = bool(parts) and parts[-1].startswith(".")
    return (shows_hidden or not member.name.startswith(".")) and _matches(member.parts, parts)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


class _Intake:
    """What an archive may hold, and where its files go."""

    def __init__(self, name: str, into: Path) -> None:
        self._name = name
        self._into = into
        self._entries = 0
        self._bytes = 0
        self.names: dict[PurePosixPath, None] = {}

    def admitted(self, member: Member) -> PurePosixPath | None:
        """The member's place below the folder; None for a folder."""
        self._entries += 1
        if self._entries > MOST_FILES:
            self._refuse(f"the archive holds more than {MOST_FILES:,} files", None, "split it into several")
        place = PurePosixPath(member.name)
        if not member.name.isprintable():
            self._refuse("the archive's file has a name that cannot be shown", member, _DISTRUST)
        if place.is_absolute() or ".." in place.parts or (member.kind == "file" and not place.parts):
            self._refuse("the archive's file would lie outside the folder that it is opened in", member, _DISTRUST)
        if member.kind in ("link", "device"):
            self._refuse(f"the archive holds a {member.kind}, not a file", member, "make it again with files alone")
        if member.kind == "folder":
            return None
        if place in self.names:
            self._refuse("the archive holds two files of this name", member, _DISTRUST)
        self.names[place] = None
        self._bytes += member.size
        if self._bytes > MOST_BYTES:
            self._refuse(f"the archive's files are larger than {MOST_BYTES >> 30} GiB", None, "split it into several")
        return place

    def write(self, member: Member, place: PurePosixPath) -> Path:
        """The member's bytes, in a file of their own."""
        path = self._into / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self._refuse("one name is both a file and a folder in the archive", member, _DISTRUST)
        except OSError as error:
            if error.errno != ENAMETOOLONG:
                raise
            self._refuse("the archive's file has a name that is too long", member, "give it a shorter one")
        with stream:
            while chunk := member.read(_CHUNK):
                stream.write(chunk)
        return path

    def _refuse(self, what: str, member: Member | None, next_step: str) -> NoReturn:
        shown = "" if member is None else member.name if member.name.isprintable() else repr(member.name)
        raise DataError(what, where=f"{self._name}!{shown}" if shown else self._name, next=next_step)


def _nothing(name: str, pattern: str | None, names: Iterable[PurePosixPath]) -> NoReturn:
    every = [str(each) for each in names]
    shown = ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN:,} more" if len(every) > _SHOWN else "")
    what = "the archive holds no files" if pattern is None else f"no file of the archive matches {pattern!r}"
    raise DataError(what, where=name, next=f"it holds {shown}" if every else "give an archive with files")
