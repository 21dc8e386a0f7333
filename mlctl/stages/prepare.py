"""prepare: raw files become memory-mapped arrays, one set for every split."""

from collections.abc import Mapping
from pathlib import Path

from mlctl.data.origins import source_files
from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Work
from mlctl.events import Warned
from mlctl.recipe.prepare import DataSettings
from mlctl.stages.artifacts import Data
from mlctl.stages.wiring import Above
from mlctl.units import plural

ROWS = ("train_rows", "validation_rows", "test_rows")


class Prepare(Stage[Data]):
    """Files outside the store in, prepared data out."""

    name = "prepare"
    revision = 1

    def __init__(self, settings: DataSettings, seed: int, base: Path) -> None:
        self._settings = settings
        self._seed = seed
        self._base = base

    @classmethod
    def wired(cls, settings: DataSettings, above: Above) -> "Prepare":
        """The stage as a recipe asks for it."""
        return cls(settings, above.seed, above.base)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, and the seed that deals out rows."""
        return {**self._settings.deciding(), "seed": self._seed}

    def sources(self) -> tuple[Path, ...]:
        """Every file that the sources name."""
        return source_files(self._settings, self._base)

    def promises(self) -> tuple[Promise, ...]:
        """How many rows there are, and how many were set aside."""
        return tuple(Promise(name, Kind.SIZE) for name in (*ROWS, "bad_rows", "duplicate_rows"))

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Read, clean, split and store."""
        from mlctl.data.preparation import prepare
        from mlctl.tasks.table import TASKS

        reading = TASKS[self._settings.task].reading(self._settings)
        prepared = prepare(reading, self._settings, self._base, work.folder, self._seed, work.tell)
        rows = prepared.description.rows
        if prepared.bad_rows:
            work.tell(Warned(f"{plural(prepared.bad_rows, 'bad row')} set aside, listed in bad_rows.csv"))
        return (
            *(Figure(f"{split}_rows", Kind.SIZE, rows[split], "rows") for split in rows),
            Figure("bad_rows", Kind.SIZE, prepared.bad_rows, "rows"),
            Figure("duplicate_rows", Kind.SIZE, prepared.duplicate_rows, "rows"),
        )

    def open(self, folder: Path) -> Data:
        """The prepared data."""
        return Data(folder)
