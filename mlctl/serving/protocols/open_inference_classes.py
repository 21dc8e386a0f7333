"""Triton's classification extension: in place of a tensor, its highest values with their places and labels."""

from collections.abc import Sequence

import numpy as np

from mlctl.serving.protocols.open_inference_tensors import Array, Wanted
from mlctl.serving.signature import Signature


def classified(array: Array, wanted: Wanted, signature: Signature) -> Array:
    """The `wanted.classes` highest values of each row of an output [n, ...]: texts [n, k], the highest first.

    A text is `value:index`, or `value:index:label` where the model's labels are those of this output; the value is
    the shortest decimal that reads back as the same bits. k is the number of values in a row where that is smaller; of
    equal values the first goes first, and NaN goes last.
    """
    rows = array.reshape(len(array), -1)
    labels = signature.meaning.labels if wanted.place == 0 and len(signature.meaning.labels) == rows.shape[1] else ()
    ranked = np.where(np.isnan(rows), -np.inf, rows) if rows.dtype.kind == "f" else rows
    # Backwards twice: the stable order is that of rising values, and of equals the first shall come first.
    order = rows.shape[1] - 1 - np.argsort(ranked[:, ::-1], axis=1, kind="stable")[:, ::-1][:, : wanted.classes]
    texts = np.empty(order.shape, object)
    for row, places in enumerate(order):
        texts[row] = [_text(rows[row, place], int(place), labels) for place in places]
    return texts


def _text(value: np.generic, place: int, labels: Sequence[str]) -> str:
    said = int(value) if isinstance(value, np.bool_) else value
    return f"{said!s}:{place}:{labels[place]}" if labels else f"{said!s}:{place}"
