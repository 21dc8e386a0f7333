"""A model's inputs from JSON: tensors as nested lists, in rows or in columns, and what stands in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Live
from mlctl.serving.protocols.answering import require_room
from mlctl.serving.protocols.bodies import from_base64, is_base64_object, kind_of, text_of
from mlctl.serving.protocols.large_bodies import require_few
from mlctl.serving.protocols.nested_tensors import tensor
from mlctl.serving.protocols.open_inference_tensors import arranged, quoted
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature


@dataclass(frozen=True)
class GivenRows:
    """The rows of a request."""

    parts: tuple[Arrays, ...]
    """Inputs [n, ...]; several where the rows may be of different length, or came as files of their own."""
    is_one: bool = False
    """Whether one row was sent by itself, and not a list of rows."""


def from_instances(live: Live, instances: object) -> GivenRows:
    """The rows of a list of them.

    A row is the value of the model's one input, or an object of all inputs by name; and where the model takes them an
    object of columns, a text, or an image or a text as `{"b64": ...}`, also as the one value of an object. Raises
    Malformed.
    """
    if not isinstance(instances, list) or not instances:
        raise Malformed("rows come as a list, with at least one of them")
    if not isinstance(instances[0], dict | str):
        return GivenRows((_single_input(live.signature, instances),))
    natural = from_natural(live, instances)
    if natural is not None:
        return natural
    if set(map(type, instances)) == {dict} and not is_base64_object(instances[0]):
        return GivenRows((_by_name(live, _columns_of(instances)),))
    return GivenRows((_single_input(live.signature, instances),))


def from_columns(live: Live, columns: object) -> GivenRows:
    """The rows of an object with all values of every input, or of every column; or of the one input's values.

    Raises Malformed.
    """
    if not isinstance(columns, dict):
        return from_instances(live, columns)
    names = {port.name for port in live.signature.inputs}
    if not columns or (names >= columns.keys() and not _is_natural(live, next(iter(columns.values())))):
        return GivenRows((_by_name(live, columns),))
    if len(columns) == 1 and (natural := from_natural(live, next(iter(columns.values())))) is not None:
        return natural
    if "row" not in live.natural.kinds:
        return GivenRows((_by_name(live, columns),))
    return GivenRows((live.natural.from_rows(_rows_of(columns)),))


def from_natural(live: Live, values: object) -> GivenRows | None:
    """The rows of a list of texts, images or rows of columns, as far as the model takes such; else None.

    Raises Malformed for what is meant as one and is none, TooLarge for more than 65,536 of them.
    """
    if not isinstance(values, list) or not values or not isinstance(values[0], str | dict):
        return None
    require_few(len(values))
    kinds = live.natural.kinds
    if kinds & {"image", "text"} and all(port.dtype != "object" for port in live.signature.inputs):
        contents = [found for each in values if (found := _content(each)) is not None]
        if len(contents) == len(values):
            return _from_contents(live, contents)
    rows: list[dict[str, Any]] = [each for each in values if isinstance(each, dict)]
    if "row" in kinds and len(rows) == len(values) and not _names_inputs(live.signature, rows[0]):
        return GivenRows((live.natural.from_rows(rows),))
    return None


def _from_contents(live: Live, contents: Sequence[str | bytes]) -> GivenRows:
    """The rows of images, which are all of one size, or of texts. Raises Malformed, TooLarge."""
    if "image" in live.natural.kinds:
        files = (from_base64(each) if isinstance(each, str) else each for each in contents)
        images = [live.natural.from_image(each) for each in files]
        return GivenRows((tuple(map(np.concatenate, zip(*images, strict=True))),))
    require_room(live, len(contents))
    return GivenRows(live.natural.from_texts([each if isinstance(each, str) else text_of(each) for each in contents]))


def _is_natural(live: Live, values: object) -> bool:
    """Whether an input's values are texts or files where the model computes with numbers."""
    if not isinstance(values, list) or not values or not live.natural.kinds & {"image", "text"}:
        return False
    return len(live.signature.inputs) == 1 and (isinstance(values[0], str) or is_base64_object(values[0]))


def _names_inputs(signature: Signature, row: Mapping[str, Any]) -> bool:
    """Whether a row's names are the inputs', and they are no columns' names too."""
    columns = {column for each in signature.meaning.inputs for column in each.columns}
    return bool(row) and all(signature.input(name) and name not in columns for name in row)


def _content(value: object) -> str | bytes | None:
    """The text or the bytes that a value is, also as the one value of an object; None for anything else."""
    if isinstance(value, dict) and len(value) == 1 and not is_base64_object(value):
        value = next(iter(value.values()))
    if is_base64_object(value):
        return from_base64(value["b64"])
    return value if isinstance(value, str) else None


def _single_input(signature: Signature, values: Sequence[object]) -> Arrays:
    """The inputs of a model that has but one."""
    if len(signature.inputs) != 1:
        names = ", ".join(repr(port.name) for port in signature.inputs)
        raise Malformed(f"the model has several inputs, so that they must be named: {names}")
    port = signature.inputs[0]
    return arranged(signature, [(port, tensor(port, values))])


def _by_name(live: Live, columns: Mapping[str, object]) -> Arrays:
    given = []
    for name, values in columns.items():
        port = live.signature.input(name)
        if port is None:
            raise Malformed(f"the model takes no {quoted(name)}; it takes {taken(live)}")
        given.append((port, tensor(port, values)))
    return arranged(live.signature, given)


def _columns_of(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """All values of every name of the rows, which must have the same names."""
    names = rows[0].keys()
    for place, row in enumerate(rows):
        if row.keys() != names:
            raise Malformed(f"row {place} does not have the names of row 0")
    return {name: [row[name] for row in rows] for name in names}


def _rows_of(columns: Mapping[str, object]) -> list[dict[str, object]]:
    """The rows of columns, which must be as long as one another."""
    lists = []
    for name, values in columns.items():
        if not isinstance(values, list):
            raise Malformed(f"column {quoted(name)} takes a list of values, not {kind_of(values)}")
        lists.append(values)
    if len(set(map(len, lists))) != 1 or not lists[0]:
        raise Malformed("all columns take the same number of values, and at least one")
    require_few(len(lists[0]))
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def taken(live: Live) -> str:
    """What the model takes, in a few words for a refusal."""
    inputs = ", ".join(repr(port.name) for port in live.signature.inputs)
    natural = [f"{'an' if kind == 'image' else 'a'} {kind}" for kind in sorted(live.natural.kinds)]
    if "row" in live.natural.kinds:
        columns = [quoted(column) for each in live.signature.meaning.inputs for column in each.columns]
        shown = columns if len(columns) <= 8 else [*columns[:8], f"… ({len(columns)} in all)"]
        natural[natural.index("a row")] = f"a row of {', '.join(shown)}"
    return " or ".join([*natural, f"tensors for {inputs}"])
