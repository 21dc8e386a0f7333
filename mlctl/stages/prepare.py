"""prepare: raw files become memory-mapped arrays, one set for every split."""

from collections.abc import Mapping
from pathlib import Path

from mlctl.data.origins import source_files
from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Work
from mlctl.events import Warned
from mlctl.recipe.prepare import SPLITS, DataSettings, LanguageModelingData, RowData
from mlctl.stages.artifacts import Data
from mlctl.stages.wiring import Above
from mlctl.units import plural

ROWS = tuple(f"{split}_rows" for split in SPLITS)
TOKENS = tuple(f"{split}_tokens" for split in SPLITS)


class Prepare(Stage[Data]):
    """Files outside the store in, prepared data out."""

    name = "prepare"
    revision = 3

    def __init__(self, settings: DataSettings, seed: int, base: Path) -> None:
        self._settings = settings
        self._seed = seed
        self._base = base

    @classmethod
    def wired(cls, settings: DataSettings, above: Above) -> "Prepare":
        """The stage as a recipe asks for it."""
        return cls(settings, above.seed, above.base)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, and the seed that deals out rows; text is not dealt out."""
        is_text = isinstance(self._settings, LanguageModelingData)
        return {**self._settings.deciding(), **({} if is_text else {"seed": self._seed})}

    def sources(self) -> tuple[Path, ...]:
        """Every file that the sources name."""
        return source_files(self._settings, self._base)

    def promises(self) -> tuple[Promise, ...]:
        """How many rows there are, and how many were set aside; or windows and tokens, where the data are text."""
        is_text = isinstance(self._settings, LanguageModelingData)
        others = (*TOKENS, "vocabulary") if is_text else ("bad_rows", "duplicate_rows")
        return tuple(Promise(name, Kind.SIZE) for name in (*ROWS, *others))

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Read, clean, split and store."""
        match self._settings:
            case RowData() as settings:
                return self._run_rows(settings, work)
            case LanguageModelingData() as settings:
                return self._run_text(settings, work)
            case other:
                raise AssertionError(f"nothing prepares {type(other).__name__}")

    def _run_rows(self, settings: RowData, work: Work) -> tuple[Figure, ...]:
        from mlctl.data.preparation import prepare
        from mlctl.tasks.table import TASKS

        reading = TASKS[settings.task].reading(settings)
        prepared = prepare(reading, settings, self._base, work.folder, self._seed, work.tell)
        rows = prepared.description.rows
        if prepared.bad_rows:
            work.tell(Warned(f"{plural(prepared.bad_rows, 'bad row')} set aside, listed in bad_rows.csv"))
        return (
            *(Figure(f"{split}_rows", Kind.SIZE, rows[split], "rows") for split in rows),
            Figure("bad_rows", Kind.SIZE, prepared.bad_rows, "rows"),
            Figure("duplicate_rows", Kind.SIZE, prepared.duplicate_rows, "rows"),
        )

    def _run_text(self, settings: LanguageModelingData, work: Work) -> tuple[Figure, ...]:
        from mlctl.data.text_preparation import prepare_text

        found = prepare_text(settings, self._base, work.folder, work.tell)
        return (
            *(Figure(f"{split}_rows", Kind.SIZE, rows, "rows") for split, rows in found.rows.items()),
            *(Figure(f"{split}_tokens", Kind.SIZE, tokens, "tokens") for split, tokens in found.tokens.items()),
            Figure("vocabulary", Kind.SIZE, found.vocabulary, "tokens"),
        )

    def open(self, folder: Path) -> Data:
        """The prepared data."""
        return Data(folder)
