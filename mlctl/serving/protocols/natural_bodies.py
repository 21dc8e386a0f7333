"""A model's inputs from a body of any media type: an image file, text, rows, tensors, or a form with them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, Final, TypeAlias

from mlctl.serving.catalogue import Live
from mlctl.serving.http.messages import OCTETS
from mlctl.serving.protocols.bodies import from_json, is_base64_object, kind_of, require_utf8, text_of
from mlctl.serving.protocols.csv_rows import rows_of
from mlctl.serving.protocols.form_data import FormPart, fields, multipart
from mlctl.serving.protocols.given_rows import GivenRows, from_columns, from_instances, from_natural, taken
from mlctl.serving.protocols.large_bodies import require_rows
from mlctl.serving.protocols.numpy_body import array_from_npy
from mlctl.serving.protocols.open_inference_tensors import arranged, quoted
from mlctl.serving.refusals import Malformed, WrongMedia

Read: TypeAlias = Callable[[Live, bytes, str], GivenRows]
"""From a body, and its content type, to rows."""

FORM: Final = "multipart/form-data"
URL_ENCODED: Final = "application/x-www-form-urlencoded"
_BODY_FIELDS: Final = ("data", "body")
"""The fields of a form, or of JSON, in which TorchServe's handlers look for their input."""
_JSON_BEGINS: Final = (b"{", b"[", b'"')

_BYTES: Final = {"type": "string", "format": "binary"}
ANY_BODY: Final[Mapping[str, Mapping[str, Any]]] = {
    "application/json": {
        "description": "A row of columns, a text, rows, or tensors as nested lists, by name if several."
    },
    "text/plain": {"type": "string"},
    "text/csv": {"type": "string"},
    "image/png": _BYTES,
    "image/jpeg": _BYTES,
    "application/x-npy": _BYTES,
    OCTETS: _BYTES,
    FORM: {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}},
}
"""What OpenAPI says of a body that `from_body` reads."""


def from_body(live: Live, body: bytes, content_type: str) -> GivenRows:
    """The rows of a body; what its content type does not say is taken for what the model takes.

    Raises Malformed for a body that is not what it is sent as, WrongMedia for a kind that the model does not take.
    """
    media = content_type.partition(";")[0].strip().lower()
    read = _READERS.get(media)
    if read is None and media.startswith("image/"):
        read = image
    elif read is None and media.endswith("+json"):
        read = _json
    if read is None:
        raise WrongMedia(f"{quoted(media)} is not read here; the model takes {taken(live)}")
    if read in (_json, text, table):
        require_utf8(content_type)
    if not body:
        raise Malformed(f"the body is empty; the model takes {taken(live)}")
    return read(live, body, content_type)


def image(live: Live, body: bytes, content_type: str = "") -> GivenRows:
    """The row of an image file. Raises Malformed, WrongMedia."""
    _require(live, "image")
    return GivenRows((live.natural.from_image(body),), is_one=True)


def text(live: Live, body: bytes, content_type: str = "") -> GivenRows:
    """The row of a text in UTF-8; JSON for a model that takes no texts. Raises Malformed."""
    if "text" not in live.natural.kinds:
        return _json(live, body, content_type)
    return GivenRows(live.natural.from_texts([text_of(body)]), is_one=True)


def table(live: Live, body: bytes, content_type: str) -> GivenRows:
    """The rows of CSV. Raises Malformed, WrongMedia."""
    _require(live, "row")
    columns = [column for each in live.signature.meaning.inputs for column in each.columns]
    return GivenRows((live.natural.from_rows(rows_of(body, content_type, columns)),))


def array(live: Live, body: bytes, content_type: str = "") -> GivenRows:
    """The rows of a NumPy array file. Raises Malformed, WrongMedia for a model of several inputs."""
    if len(live.signature.inputs) != 1:
        raise WrongMedia("the model has several inputs, and an array file holds but one")
    port = live.signature.inputs[0]
    return GivenRows((arranged(live.signature, [(port, array_from_npy(body, port))]),))


def from_value(live: Live, value: Any) -> GivenRows:
    """The rows of a JSON value: one text, image or row, a list of them, or tensors. Raises Malformed."""
    if isinstance(value, list):
        return from_instances(live, value)
    if isinstance(value, str) or is_base64_object(value):
        found = from_natural(live, [value])
        if found is None:
            raise Malformed(f"the model takes {taken(live)}, not a string")
        return GivenRows(found.parts, is_one=True)
    if not isinstance(value, dict):
        raise Malformed(f"the model takes {taken(live)}, not {kind_of(value)}")
    return _from_object(live, value)


def _from_object(live: Live, value: dict[str, Any]) -> GivenRows:
    """One row of columns, tensors by name, or what stands under the name of an envelope."""
    columns = {column for each in live.signature.meaning.inputs for column in each.columns}
    is_plain = not value.keys() & columns and not any(map(live.signature.input, value))
    if is_plain and len(value) == 1:
        name, inner = next(iter(value.items()))
        if name == "instances":
            return from_instances(live, inner)
        if name == "inputs":
            return from_columns(live, inner)
        if name in _BODY_FIELDS and not isinstance(inner, dict):
            return from_value(live, inner)
    if any(isinstance(each, list) for each in value.values()):
        return from_columns(live, value)
    return GivenRows(from_instances(live, [value]).parts, is_one=True)


def _json(live: Live, body: bytes, content_type: str) -> GivenRows:
    require_rows(body, live)
    return from_value(live, from_json(body))


def _form(live: Live, body: bytes, content_type: str) -> GivenRows:
    return _from_fields(live, multipart(content_type, body))


def _url_encoded(live: Live, body: bytes, content_type: str) -> GivenRows:
    # It is what curl calls every body that it is not told the type of, JSON above all.
    if any(body.startswith(f"{name}=".encode()) for name in _BODY_FIELDS):
        return _from_fields(live, fields(body))
    return _of_any_kind(live, body, content_type)


def _from_fields(live: Live, parts: tuple[FormPart, ...]) -> GivenRows:
    """The rows of the fields `data` or `body`, of which there may be several, or of a form's only field."""
    chosen = [part for part in parts if part.name in _BODY_FIELDS] or list(parts)
    if len({part.name for part in chosen}) != 1:
        raise Malformed("the form needs one field `data`, with an image, a text, or JSON")
    found = [from_body(live, part.content, _of_part(part)) for part in chosen]
    return GivenRows(
        tuple(chain.from_iterable(each.parts for each in found)), is_one=len(found) == 1 and found[0].is_one
    )


def _of_part(part: FormPart) -> str:
    """A part's content type; a form inside a form is none that is read."""
    nested = part.content_type.lower().startswith((FORM, URL_ENCODED))
    return "multipart/mixed" if nested else part.content_type


def _of_any_kind(live: Live, body: bytes, content_type: str) -> GivenRows:
    """What the model takes: an image file, else JSON if it looks like JSON, else a text."""
    if body.lstrip()[:1] in _JSON_BEGINS:
        if "text" not in live.natural.kinds:
            return _json(live, body, content_type)
        with suppress(Malformed):
            # A text that is no JSON may hold as many braces as it likes.
            return from_value(live, from_json(body))
    if "image" in live.natural.kinds:
        return image(live, body)
    return text(live, body, content_type)


def _require(live: Live, kind: str) -> None:
    if kind not in live.natural.kinds:
        raise WrongMedia(f"the model takes no {kind}s; it takes {taken(live)}")


_READERS: Final[dict[str, Read]] = {
    "application/json": _json,
    "text/plain": text,
    "text/csv": table,
    "application/csv": table,
    "application/x-npy": array,
    "application/x-image": image,
    FORM: _form,
    URL_ENCODED: _url_encoded,
    OCTETS: _of_any_kind,
    "": _of_any_kind,
}
