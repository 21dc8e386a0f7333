"""What a model's text is cut into goes with the model, so that its folder is all that serving needs."""

import shutil
from pathlib import Path

from mlctl.errors import StepFailed
from mlctl.graphs.tokenizer_file import TOKENIZER_FILE


def keep_tokenizer(source: Path, into: Path) -> None:
    """Copy the `tokenizer.json` of prepared data, or of a model, into a model's folder; where it is no text there is
    none."""
    if (source / TOKENIZER_FILE).exists():
        shutil.copyfile(source / TOKENIZER_FILE, into / TOKENIZER_FILE)


def require_same_tokens(name: str, model: Path, data: Path) -> None:
    """Raise StepFailed where a model learnt other tokens than the data holds: its figures would be nonsense."""
    if (data / TOKENIZER_FILE).exists() and not _are_equal(model / TOKENIZER_FILE, data / TOKENIZER_FILE):
        raise StepFailed(
            f"{name} learnt other tokens than the data holds that it is to be measured on",
            next="name the data that it learnt from in `eval.data`",
        )


def _are_equal(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()
