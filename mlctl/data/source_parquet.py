"""Tables in Parquet, as a kind of source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading
from mlctl.data.source_kind import SourceKind
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class ParquetFiles(SourceKind):
    """Apache Parquet, compressed by any of its own codecs that pyarrow has."""

    name = "tables in Parquet"
    endings = (".parquet",)
    is_table = True

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Rows in the order of the files, which have the same columns."""
        from mlctl.data.parquet_rows import PARQUET
        from mlctl.data.tables import open_tables

        return open_tables(PARQUET, reading, settings, origins, classes)
