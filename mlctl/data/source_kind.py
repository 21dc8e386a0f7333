"""What a kind of source is: which files are of it, and how they are opened."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class SourceKind(ABC):
    """Files of rows that are read in one way.

    The plan asks what is recognized, so a kind's file is standard library only when it is imported; what reads rows is
    imported where it opens them.
    """

    name: ClassVar[str]
    """What people call the files, in the plural."""
    endings: ClassVar[tuple[str, ...]]
    """What their names end in, in lower case, as messages list them."""
    is_table: ClassVar[bool] = False
    """Whether rows have columns with names."""
    folders: ClassVar[bool] = False
    """Whether a folder of them, or an archive, can be named as a whole."""

    def recognizes(self, name: str) -> bool:
        """Whether a file that is called so is of this kind."""
        return name.lower().endswith(self.endings)

    def placed(self, origins: Sequence[Origin]) -> tuple[Origin, ...]:
        """The files, all of this kind, with what their places tell. Raises DataError for a place that tells nothing."""
        return tuple(origins)

    def empty_folders(self, origins: Sequence[Origin]) -> tuple[str, ...]:
        """Folders of the source in which a file of this kind was to be expected, and none is, sorted."""
        return ()

    @abstractmethod
    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """What `reading` asks for, from the files in their order; labels get their numbers from `classes`.

        Raises DataError where the files cannot give it.
        """
