"""The natural inputs of one version of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mlctl.digests import Json
from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays
from mlctl.serving.natural.answers import meant_by
from mlctl.serving.natural.image_files import ImageFiles
from mlctl.serving.natural.prompts import Prompts
from mlctl.serving.natural.rows import ColumnRows
from mlctl.serving.natural.texts import Texts
from mlctl.serving.natural.values import Kind, Natural
from mlctl.serving.refusals import Malformed, WrongMedia
from mlctl.serving.signature import Signature


def natural_for(signature: Signature) -> Natural:
    """What may be sent to a model in place of tensors, by its ports and its meaning.

    Only a model of text loads `tokenizers` here, and only its first image loads Pillow. Raises DataError for a
    tokenizer that cannot be used, and for labels that are not those of the output.
    """
    labels, shape = signature.meaning.labels, signature.outputs[0].shape
    if labels and (len(shape) < 2 or shape[-1] not in (None, len(labels))):
        raise DataError(
            f"the graph's metadata names {len(labels)} labels for an output of the shape {list(shape)}",
            where=signature.name,
            next="take a graph that mlctl made, or make it again",
        )
    return _NaturalInputs(signature)


class _NaturalInputs:
    """A Natural."""

    def __init__(self, signature: Signature) -> None:
        self._name = signature.name
        self._images = ImageFiles.of(signature)
        self._rows = ColumnRows.of(signature)
        prompts = Prompts.of(signature)
        self._texts = prompts or Texts.of(signature)
        self._meant = meant_by(signature, prompts.spelt if prompts else lambda token: None)
        readers: dict[Kind, object] = {"image": self._images, "row": self._rows, "text": self._texts}
        self.kinds = frozenset(kind for kind, reader in readers.items() if reader is not None)

    def from_image(self, body: bytes) -> Arrays:
        """The inputs [1, ...] of one image file."""
        return self._images.inputs(body) if self._images else self._refuse("images")

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> Arrays:
        """The inputs [n, ...] of rows of named columns."""
        return self._rows.inputs(rows) if self._rows else self._refuse("rows of named columns")

    def from_texts(self, texts: Sequence[str]) -> tuple[Arrays, ...]:
        """For every text its inputs [1, T]."""
        if self._texts is None:
            self._refuse("texts")
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise Malformed(f"text {place} is no string")
        return tuple(map(self._texts.inputs, texts))

    def meant(self, outputs: Arrays) -> list[Json]:
        """For every row of the outputs what it means."""
        return self._meant(outputs)

    def _refuse(self, what: str) -> NoReturn:
        taken = ", ".join(f"{each}s" for each in sorted(self.kinds))
        raise WrongMedia(f"{self._name!r} takes no {what}; it takes {f'{taken} and tensors' if taken else 'tensors'}")
