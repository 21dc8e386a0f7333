"""Cuts that were made, kept until the step is done, so that a killed run goes on from the last one."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from mlctl.compression.pruning.selection import Whole
from mlctl.digests import jsonable
from mlctl.engine.store import flush
from mlctl.models.files import save_model
from mlctl.stages.cutting import Cut, LayerCut
from mlctl.stages.pruned_state import Figures
from mlctl.training.trained import stored_model

RECORD = "cut.json"


@dataclass(frozen=True)
class Record:
    """What is said of a cut beside its network: what is left of every layer, and what it is worth as cut."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layers: tuple[LayerCut, ...]
    fixed: dict[str, str]
    figures: Figures
    original: Whole | None


_RECORD = TypeAdapter(Record)


class PruningSteps:
    """The folders of a pruning's cuts, and of the trainings that follow them, within the step's private folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count

    def latest(self, code: Path | None) -> tuple[Cut, Figures] | None:
        """The last cut that was kept, and what it was worth; None where there is none. `code` as in `stored_model`."""
        for step in reversed(range(self._count)):
            folder = self._cut(step)
            if folder.is_dir():
                record = _RECORD.validate_json((folder / RECORD).read_bytes())
                config, model = stored_model(folder, code)
                return Cut(config, model, step, record.layers, record.fixed, record.original), record.figures
        return None

    def draft(self, cut: Cut, fingerprint: str) -> Path:
        """A folder with the cut's network in it, which `keep` makes the step's own."""
        draft = self._folder / "draft"
        rmtree(draft, ignore_errors=True)
        draft.mkdir()
        save_model(draft, cut.config, cut.model.network, fingerprint)
        return draft

    def keep(self, draft: Path, cut: Cut, figures: Figures) -> None:
        """Let the draft be what a killed run goes on from."""
        record = Record(cut.layers, dict(cut.fixed), figures, cut.original)
        (draft / RECORD).write_text(json.dumps(jsonable(asdict(record))))
        flush(draft)
        draft.rename(self._cut(cut.step))

    def training(self, step: int) -> Path:
        """The folder of the training after a cut."""
        folder = self._folder / f"fit-{step}"
        folder.mkdir(exist_ok=True)
        return folder

    def keep_history(self, step: int, text: str) -> None:
        """Keep the JSON lines of the training after a cut."""
        draft = self._folder / "history"
        draft.write_text(text)
        draft.replace(self._folder / f"history-{step}")

    def history(self) -> str:
        """The JSON lines of all trainings, each with the number of its cut, from 1."""
        lines = [
            {"cut": step + 1, **json.loads(line)}
            for step in range(self._count)
            for line in (self._folder / f"history-{step}").read_text().splitlines()
        ]
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def records(self) -> Iterator[Record]:
        """What is said of every cut, in order."""
        for step in range(self._count):
            yield _RECORD.validate_json((self._cut(step) / RECORD).read_bytes())

    def _cut(self, step: int) -> Path:
        return self._folder / f"cut-{step}"
