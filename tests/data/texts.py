"""Texts to prepare, staged or as files, and what the `tokenizers` library makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlctl.data.description import DataDescription
from mlctl.data.origin import Origin
from mlctl.data.text_preparation import prepare_text
from mlctl.data.text_staging import Span, StagedText, stage_text
from mlctl.events import Tell, silent
from mlctl.recipe.prepare import LanguageModelingData

PROSE = "".join(
    f"On day {day} the river rose by {day % 7} inches; nobody — not even Zoë’s héron — moved. 河水上涨。\n"
    for day in range(400)
)
"""Letters of several scripts, digits, punctuation and spaces: characters of one to three bytes."""


def staged(folder: Path, text: str | bytes) -> tuple[StagedText, Span]:
    """The text in one file, staged, and all of it."""
    path = folder / "text.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    found = stage_text((Origin(path),), folder / "staged", lambda position: None)
    return found, found.spans[None]


def prepared(
    folder: Path, files: Mapping[str, str | bytes], tell: Tell = silent, **settings: Any
) -> tuple[DataDescription, Path]:
    """What prepare makes of the files, beside each other in `folder`; all of them are the source, unless it is told."""
    for name, text in files.items():
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    into = folder / "out"
    into.mkdir()
    asked = {"task": "language-modeling", "context": 8, **settings}
    if "split" not in asked or "files" not in asked["split"]:
        asked.setdefault("source", tuple(files))
    return prepare_text(LanguageModelingData.model_validate(asked), folder, into, tell), into
