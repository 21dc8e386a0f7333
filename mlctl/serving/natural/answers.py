"""What a model's outputs mean, as plain JSON.

Numbers of float32 are the shortest decimals that round to them. JSON has no number for what is not finite: it is null.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from mlctl.digests import Json
from mlctl.runtime.answers import Arrays
from mlctl.serving.signature import Signature

Spelling: TypeAlias = Callable[[int], str | None]
"""The text of a token; None for one that nobody knows."""
Meant: TypeAlias = Callable[[Arrays], list[Json]]
"""For every row of the outputs [n, ...] what it means."""

LIKELIEST: Final = 5
"""Next tokens that a language model's answer names."""


def meant_by(signature: Signature, spelling: Spelling) -> Meant:
    """How the outputs of the model are read; of a graph that does not say what it is for they are given by name."""
    task, rank = signature.meaning.task, len(signature.outputs[0].shape)
    if task == "image-classification" and rank == 2:
        return partial(_classes, labels=signature.meaning.labels)
    if task == "regression":
        return _numbers
    if task == "embedding":
        return _embeddings
    if task == "language-modeling" and rank == 3:
        return partial(_next_tokens, spelling=spelling)
    return partial(_named, names=tuple(port.name for port in signature.outputs))


def plain(values: npt.NDArray[Any]) -> Any:
    """The array [n, ...] as nested lists of JSON's own types."""
    if values.dtype.kind in "biuf":
        written = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
        return orjson.loads(written)
    return [_text(each) if values.ndim == 1 else plain(each) for each in values]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _classes(outputs: Arrays, *, labels: Sequence[str]) -> list[Json]:
    """The likeliest class and the probability of every one, [n, C]; a class without a name is called by its number."""
    probabilities = outputs[0]
    names = labels if len(labels) == probabilities.shape[1] else [str(each) for each in range(probabilities.shape[1])]
    return [
        _class_of(row, names, int(best))
        for row, best in zip(plain(probabilities), probabilities.argmax(axis=1), strict=True)
    ]


def _class_of(row: list[float | None], names: Sequence[str], best: int) -> Json:
    is_finite = None not in row
    return {
        "label": names[best] if is_finite else None,
        "probability": row[best] if is_finite else None,
        "probabilities": dict(zip(names, row, strict=True)),
    }


def _numbers(outputs: Arrays) -> list[Json]:
    """One number for every row, [n] or [n, 1]."""
    values = outputs[0]
    each_has_one = values.size == len(values)
    return [{"prediction": each} for each in plain(values.reshape(len(values)) if each_has_one else values)]


def _embeddings(outputs: Arrays) -> list[Json]:
    return [{"embedding": each} for each in plain(outputs[0])]


def _next_tokens(outputs: Arrays, *, spelling: Spelling) -> list[Json]:
    """The likeliest tokens to come after the last place of every text, from logits [n, T, V]."""
    return [{"next": _likeliest(row, spelling)} for row in outputs[0][:, -1].astype(np.float64)]


def _likeliest(logits: npt.NDArray[np.float64], spelling: Spelling) -> list[Json]:
    if not np.isfinite(logits).all():
        return []
    weights = np.exp(logits - logits.max())
    order = np.argsort(-logits, kind="stable")[:LIKELIEST]
    shares = plain((weights[order] / weights.sum()).astype(np.float32))
    return [
        {"token": token, "text": spelling(token), "probability": share}
        for token, share in zip(order.tolist(), shares, strict=True)
    ]


def _named(outputs: Arrays, *, names: Sequence[str]) -> list[Json]:
    columns = [plain(each) for each in outputs]
    return [{"outputs": dict(zip(names, row, strict=True))} for row in zip(*columns, strict=True)]
