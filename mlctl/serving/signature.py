"""What a served model takes and gives, and what the numbers mean: as every protocol describes it."""

from dataclasses import dataclass
from pathlib import Path

from mlctl.runtime.running import Port


@dataclass(frozen=True)
class InputMeaning:
    """What an input's raw numbers are: `scale` is the largest that they are scaled by in the graph (255 for bytes).

    `columns` names the source's columns that make it, in order; empty for images and tokens. `shape` is that of a row
    as the model learnt it, which the graph may leave open, as it does the length of a text; empty where nothing says.
    `name` is empty where the file does not tell: then it is the graph's input at the same place.
    """

    name: str
    columns: tuple[str, ...] = ()
    scale: float = 1.0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Meaning:
    """What a model is for, as far as its file says; a graph of another tool may say nothing."""

    task: str = ""
    """A task of the recipe, or empty."""
    labels: tuple[str, ...] = ()
    """Classes in the order of the first output's last axis; empty where there are none."""
    inputs: tuple[InputMeaning, ...] = ()
    tokenizer: Path | None = None
    """`tokenizer.json` of the `tokenizers` library, where the model reads text."""
    fingerprint: str = ""
    """Of the artifact; empty for a graph of another tool."""


@dataclass(frozen=True)
class Signature:
    """One version of a model, as protocols describe it.

    Shapes of ports hold the batch as their first dimension. It is None (open) in every input and output of a model
    whose requests can be joined.
    """

    name: str
    version: int
    runtime: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    meaning: Meaning

    def input(self, name: str) -> Port | None:
        """The input of that name, if there is one."""
        return next((each for each in self.inputs if each.name == name), None)

    def output(self, name: str) -> Port | None:
        """The output of that name, if there is one."""
        return next((each for each in self.outputs if each.name == name), None)
