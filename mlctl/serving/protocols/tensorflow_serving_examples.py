"""TensorFlow Serving's :classify and :regress: examples with named features, and answers with labels or values."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.catalogue import Live
from mlctl.serving.protocols.bodies import kind_of
from mlctl.serving.protocols.given_rows import GivenRows, from_natural, taken
from mlctl.serving.protocols.nested_tensors import Jsonable, jsonable, row_tensor
from mlctl.serving.protocols.open_inference_tensors import arranged, quoted
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature


def from_examples(live: Live, body: Mapping[str, Any]) -> GivenRows:
    """The rows of `examples`, each with the features of `context` too.

    A feature is a column, an input whose values it holds in one flat list, or a text or an image as `{"b64": ...}`.
    Raises Malformed.
    """
    examples, context = body.get("examples"), body.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise Malformed("the request holds 'examples': a list with at least one object of features")
    if not isinstance(context, dict):
        raise Malformed(f"'context' is an object of features, not {kind_of(context)}")
    rows = [_merged(place, example, context) for place, example in enumerate(examples)]
    if all(map(live.signature.input, rows[0])) and not _are_files(rows[0]):
        return GivenRows((_inputs(live.signature, rows),))
    found = from_natural(live, rows)
    if found is None:
        raise Malformed(f"the examples' features are not what the model takes, which is {taken(live)}")
    return found


def require_classes(signature: Signature) -> None:
    """Raise Malformed for a model whose first output is not a score for every class."""
    port, task = signature.outputs[0], signature.meaning.task
    if len(port.shape) != 2 or not _is_float(port) or task not in ("", "image-classification"):
        raise Malformed(f"the model {signature.name!r} gives no classes with scores; ask it by :predict")


def require_regression(signature: Signature) -> None:
    """Raise Malformed for a model whose first output is not one number for every row."""
    port, task = signature.outputs[0], signature.meaning.task
    if port.shape[1:] not in ((), (1,)) or not _is_float(port) or task not in ("", "regression"):
        raise Malformed(f"the model {signature.name!r} gives no single number for every row; ask it by :predict")


def classes(signature: Signature, parts: Sequence[Arrays]) -> Jsonable:
    """For every row pairs of label and score, in the order of the output; a class without a label has an empty one."""
    labels, found = signature.meaning.labels, []
    for scores in chain.from_iterable(_first(signature, parts)):
        named = labels if len(labels) == len(scores) else ("",) * len(scores)
        found.append([[label, score] for label, score in zip(named, scores, strict=True)])
    return found


def regressions(signature: Signature, parts: Sequence[Arrays]) -> Jsonable:
    """For every row its number."""
    return [value for values in _first(signature, parts) for value in np.ravel(values)]


def _first(signature: Signature, parts: Sequence[Arrays]) -> list[Jsonable]:
    """The first output of every part; its numbers stay NumPy's, whose shortest decimals orjson writes."""
    return [jsonable(signature.outputs[0], part[0]) for part in parts]


def _is_float(port: Port) -> bool:
    return port.dtype in ("float16", "bfloat16", "float32", "float64")


def _merged(place: int, example: object, context: Mapping[str, Any]) -> dict[str, Any]:
    """An example's features with the context's, single values taken out of their lists."""
    if not isinstance(example, dict):
        raise Malformed(f"example {place} is an object of features, not {kind_of(example)}")
    twice = context.keys() & example.keys()
    if twice:
        raise Malformed(f"feature {quoted(min(twice))} stands in 'context' and in example {place}")
    features = {**context, **example}
    if not features:
        raise Malformed(f"example {place} has no features")
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in features.items()
    }


def _are_files(row: Mapping[str, Any]) -> bool:
    """Whether its one feature is a text or bytes."""
    return len(row) == 1 and isinstance(next(iter(row.values())), str | dict)


def _inputs(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> Arrays:
    names = rows[0].keys()
    for place, row in enumerate(rows):
        if row.keys() != names:
            raise Malformed(f"example {place} does not have the features of example 0")
    ports = [port for port in signature.inputs if port.name in names]
    return arranged(signature, [(port, row_tensor(port, [row[port.name] for row in rows])) for port in ports])
