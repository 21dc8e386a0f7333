"""What bodies are written in, whatever the protocol: JSON, base64 and text, read with care; and answers as JSON."""

import binascii
import re
from base64 import b64decode
from typing import Any, Final, TypeGuard

import orjson

from mlctl.serving.http.messages import Response
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Malformed, WrongMedia

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_CHARSET: Final = re.compile(r""";\s*charset\s*=\s*["']?([^"';\s]*)""", re.IGNORECASE)
_READ: Final = ("", "utf-8", "utf8", "us-ascii", "ascii")


def from_json(body: bytes | memoryview) -> Any:
    """The JSON value that a body is; numbers beyond float64, NaN and nesting beyond 1,024 are no JSON here.

    Raises Malformed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as damage:
        raise Malformed(f"the request is no JSON: {damage}") from None


def from_base64(text: object) -> bytes:
    """The bytes that base64 (RFC 4648, section 4) stands for. Raises Malformed for anything else."""
    if not isinstance(text, str):
        raise Malformed(f"base64 is a string, not {kind_of(text)}")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{quoted(text)} is not base64") from None


def is_base64_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is `{"b64": ...}`, by which JSON holds bytes."""
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def text_of(body: bytes) -> str:
    """The text that the bytes are in UTF-8. Raises Malformed."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Malformed("the text is not UTF-8") from None


def require_utf8(content_type: str) -> None:
    """Raise WrongMedia where a text is said to be in another encoding than the one that it is read in."""
    said = _CHARSET.search(content_type)
    if said and said[1].lower() not in _READ:
        raise WrongMedia(f"the charset {quoted(said[1])} is not read here: send the text in utf-8")


def kind_of(value: object) -> str:
    """What JSON calls a value of that kind, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return kinds.get(type(value), "something else")


def in_json(value: object, status: int = 200) -> Response:
    """The answer whose body is that value. Arrays are nested lists of shortest decimals; what is not finite is null."""
    return Response(status, orjson.dumps(value, option=_OPTIONS))
