"""The one table of kinds of sources. Standard library only: the plan asks too."""

from collections.abc import Sequence
from typing import Final

from mlctl.data.locations import ARCHIVE_SUFFIXES
from mlctl.data.origin import Origin
from mlctl.data.source_arrays import ArrayFiles
from mlctl.data.source_cifar import CifarFiles
from mlctl.data.source_delimited import DelimitedText
from mlctl.data.source_idx import IdxFiles
from mlctl.data.source_images import ImageFiles
from mlctl.data.source_json_lines import JsonLines
from mlctl.data.source_kind import SourceKind
from mlctl.data.source_parquet import ParquetFiles
from mlctl.errors import DataError

SOURCES: Final[tuple[SourceKind, ...]] = (
    CifarFiles(),  # before delimited text, since its lists of labels end in .txt
    DelimitedText(),
    JsonLines(),
    ParquetFiles(),
    ArrayFiles(),
    IdxFiles(),
    ImageFiles(),
)
"""The first that recognizes a file's name reads it."""


def source_of(origins: Sequence[Origin]) -> tuple[SourceKind, tuple[Origin, ...]]:
    """The kind that the files are of, and those to be read: of a folder that is named as a whole, those of its kind.

    Raises DataError for a file that no kind recognizes, and for files of several kinds.
    """
    chosen = [(kind_of(each), each) for each in origins if not each.listed_in]
    for folder in dict.fromkeys(each.listed_in for each in origins if each.listed_in):
        chosen += _in_folder(folder, [each for each in origins if each.listed_in == folder])
    first_kind, first = chosen[0]
    for kind, origin in chosen:
        if kind is not first_kind:
            raise DataError(
                f"{first_kind.name} and {kind.name} cannot be one source; {first.name} is of the other kind",
                where=origin.name,
                next="name files of one kind",
            )
    kept = {origin for _, origin in chosen}
    return first_kind, first_kind.placed([each for each in origins if each in kept])


def kind_of(origin: Origin) -> SourceKind:
    """The kind that a file is of. Raises DataError where no kind recognizes it."""
    name = origin.path.name
    for kind in SOURCES:
        if kind.recognizes(name):
            return kind
    known = "; ".join(f"{kind.name} ({', '.join(kind.endings)})" for kind in SOURCES)
    raise DataError(
        f"a source of the kind {origin.path.suffix or 'without a suffix'!r} cannot be read",
        where=origin.name,
        next=f"give {known}; or archives of these ({', '.join(ARCHIVE_SUFFIXES)})",
    )


def _in_folder(folder: str, origins: Sequence[Origin]) -> list[tuple[SourceKind, Origin]]:
    # What else a folder holds, such as notes, is read only where the recipe names it.
    kinds = [kind for kind in SOURCES if kind.folders]
    chosen = [(kind, each) for kind in kinds for each in origins if kind.recognizes(each.path.name)]
    if chosen:
        return chosen
    glob = f"{folder}{'!' if origins[0].alias else '/'}**/*{origins[0].path.suffix}"
    raise DataError(
        "there are no class folders with images here",
        where=folder,
        next=f"give every class its own folder, or name the files by a glob such as {glob}",
    )
