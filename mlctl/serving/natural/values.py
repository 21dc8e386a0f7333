"""What people send where tensors would be a burden, and what the answers mean to them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from mlctl.digests import Json
from mlctl.runtime.answers import Arrays

Kind: TypeAlias = Literal["image", "row", "text"]


class Natural(Protocol):
    """The natural inputs of one version of a model; which there are, its signature decides."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What may be sent; empty for a model that takes tensors alone."""

    def from_image(self, body: bytes) -> Arrays:
        """The inputs [1, ...] of one image file. Raises Malformed for what is none, WrongMedia without that kind."""

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """The inputs [n, ...] of rows of named columns. Raises Malformed with the row and the column, WrongMedia."""

    def from_texts(self, texts: Sequence[str]) -> tuple[Arrays, ...]:
        """For every text its inputs [1, T], T its own number of tokens. Raises Malformed, WrongMedia."""

    def meant(self, outputs: Arrays) -> list[Json]:
        """For every row of the graph's outputs [n, ...] what it means: a label with probabilities, or numbers."""
