"""Tables in lines of JSON, as a kind of source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlctl.data.origin import Origin
from mlctl.data.reading import Reading
from mlctl.data.source_kind import SourceKind
from mlctl.recipe.prepare import RowData

if TYPE_CHECKING:
    from mlctl.data.batches import Source
    from mlctl.data.classes import ClassNumbers


class JsonLines(SourceKind):
    """An object on each line (https://jsonlines.org), plain, gzip or zstd."""

    name = "tables in lines of JSON"
    endings = tuple(f"{plain}{codec}" for codec in ("", ".gz", ".zst") for plain in (".jsonl", ".ndjson"))
    is_table = True

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: "ClassNumbers") -> "Source":
        """Rows in the order of the files; the columns are the keys of the first object."""
        from mlctl.data.json_rows import JSON_LINES
        from mlctl.data.tables import open_tables

        return open_tables(JSON_LINES, reading, settings, origins, classes)
