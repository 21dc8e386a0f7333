"""Tables in delimited text, as a kind of source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading
from mlctl.data.source_kind import SourceKind
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class DelimitedText(SourceKind):
    """Comma or tab separated values with a header, plain, gzip or zstd."""

    name = "tables in delimited text"
    endings = tuple(f"{plain}{codec}" for codec in ("", ".gz", ".zst") for plain in (".csv", ".tsv", ".txt"))
    is_table = True

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Rows in the order of the files, which have one header."""
        from mlctl.data.delimited_rows import DELIMITED
        from mlctl.data.tables import open_tables

        return open_tables(DELIMITED, reading, settings, origins, classes)
