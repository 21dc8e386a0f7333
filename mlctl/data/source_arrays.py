"""Arrays in `.npz` files, as a kind of source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import EveryArray, Reading
from mlctl.data.source_kind import SourceKind
from mlctl.errors import DataError
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class ArrayFiles(SourceKind):
    """NumPy's archives of plain arrays."""

    name = "files of arrays"
    endings = (".npz",)

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Every array as an input of its own, values as they are."""
        from mlctl.data.array_files import open_arrays

        if reading.inputs != (EveryArray(),):
            raise DataError(
                f"the task {reading.task} reads no files of arrays",
                where=origins[0].name,
                next="give a table or images, or choose `task: embedding`",
            )
        return open_arrays(origins)
