"""Rows that cannot be used: set aside in `bad_rows.csv`, or the reason to refuse."""

import csv
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from mlctl.data.batches import BadRow
from mlctl.errors import DataError
from mlctl.units import plural

FILE_NAME = "bad_rows.csv"
SHOWN = 5


class BadRows:
    """Counts bad rows; with a `folder` it also lists each in `bad_rows.csv` (file, line, reason).

    Files are listed relative to `base` where they lie below it, so that the list is the same on every machine.
    """

    def __init__(self, folder: Path | None, base: Path) -> None:
        self.count = 0
        self._base = base
        self._first: list[BadRow] = []
        self._stream = None if folder is None else (folder / FILE_NAME).open("w", encoding="utf-8", newline="")
        self._list(("file", "line", "reason"))

    def add(self, rows: Iterable[BadRow]) -> None:
        """Take in rows in the order of the source."""
        for row in rows:
            self.count += 1
            if len(self._first) < SHOWN:
                self._first.append(row)
            self._list((self._shown(row.file), "" if row.line is None else str(row.line), row.reason))

    def refusal(self) -> DataError:
        """The error that names the first few rows and says how many there are."""
        lines = [str(row) for row in self._first]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines):,} more")
        return DataError("\n  ".join((f"{plural(self.count, 'row')} cannot be used", *lines)))

    def _shown(self, file: str) -> str:
        is_below = "://" not in file and Path(file).is_relative_to(self._base)
        return Path(file).relative_to(self._base).as_posix() if is_below else file

    def _list(self, fields: tuple[str, str, str]) -> None:
        if self._stream is not None:
            csv.writer(self._stream, lineterminator="\n").writerow(fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
