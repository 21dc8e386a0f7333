"""A lab whose recipe is a language model, down to integers."""

import random
from pathlib import Path

from conftest import Lab

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "café", "run", "—")
LANGUAGE = """\
mlctl: 1
name: language
seed: 3

prepare:
  task: language-modeling
  source: text.txt
  context: 16

train:
  model: {arch: transformer, width: 16, layers: 1, heads: 2}
  epochs: 4
  batch_size: 16
  optimizer: {name: adamw, lr: 1.0e-2}
  precision: float32

export: {}

quantize: {method: dynamic}
quantize.fixed: {from: export, method: static}
"""


def new_language_lab(folder: Path) -> Lab:
    """A lab in a folder that is there already, with `text.txt` and the recipe `language.yaml`."""
    dice = random.Random(5)
    lines = (" ".join(dice.choices(WORDS, k=12)) for _ in range(120))
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "language.yaml").write_text(LANGUAGE)
    return Lab(folder)
