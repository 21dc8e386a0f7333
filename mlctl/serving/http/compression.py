"""Bodies that travel compressed."""

import zlib
from typing import Final, Literal, TypeAlias

from mlctl.serving.http.messages import Response
from mlctl.serving.refusals import Malformed, TooLarge, WrongMedia

Coding: TypeAlias = Literal["gzip", "deflate"]

_FEWEST: Final = 32 * 2**10
"""Bytes below which compressing (1 ms for 64 kB of JSON) takes longer than a network of 1 Gbit/s wins."""
_MOST: Final = 2**19
"""Bytes above which compressing would keep every other caller waiting for more than 10 ms: there is one event loop."""
_TEXTUAL: Final = ("application/json", "text/", "application/openmetrics-text")
"""What shrinks. Tensors of floats do not: their mantissas are noise."""
_EITHER: Final = 32 + zlib.MAX_WBITS
"""Lets zlib tell gzip from its own format by the first bytes."""


def decompressed(body: bytes, codings: str, most: int) -> bytes:
    """The body without the codings that `Content-Encoding` names, the last of them undone first.

    Raises WrongMedia for other codings than gzip and deflate, or more than two, TooLarge where it grows beyond `most`
    bytes, Malformed where it is not what its coding says.
    """
    names = [each.strip().lower() for each in codings.split(",")]
    if len(names) > 2 or any(name not in ("gzip", "x-gzip", "deflate", "identity") for name in names):
        raise WrongMedia("a body may be compressed with gzip or deflate, and with nothing else")
    for name in reversed(names):
        if name != "identity":
            body = _inflated(body, most, may_be_raw=name == "deflate")
    return body


def _inflated(body: bytes, most: int, *, may_be_raw: bool) -> bytes:
    # Some clients leave zlib's two-byte header out of what they call deflate (RFC 9110, section 8.4.1.2).
    is_raw = may_be_raw and not (body[:1] and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0)
    whole = bytearray()
    while body:
        stream = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _EITHER)
        try:
            whole += stream.decompress(body, most - len(whole) + 1)
        except zlib.error as error:
            raise Malformed("the body is not compressed in the way that Content-Encoding says") from error
        if len(whole) > most:
            raise TooLarge(f"the body is larger than {most} bytes when it is decompressed")
        if not stream.eof:
            raise Malformed("the compressed body ends before its end")
        body = stream.unused_data
        if body and may_be_raw:
            raise Malformed("there is more after the end of the compressed body")
    return bytes(whole)


def compressed(response: Response, accepted: str) -> Response:
    """The response in a coding that `Accept-Encoding` asks for, where that is worth it; or as it is."""
    if not _FEWEST <= len(response.body) <= _MOST or not response.media.startswith(_TEXTUAL):
        return response
    if any(name.lower() == "content-encoding" for name, _ in response.headers):
        return response
    coding = _wanted(accepted)
    if coding is None:
        return response
    stream = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS if coding == "gzip" else zlib.MAX_WBITS)
    body = stream.compress(response.body) + stream.flush()
    if len(body) > 0.9 * len(response.body):
        return response
    headers = (*response.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
    return Response(response.status, body, response.media, headers)


def _wanted(accepted: str) -> Coding | None:
    """What the caller takes (RFC 9110, section 12.5.3); gzip, where both."""
    weights: dict[str, bool] = {}
    for each in accepted.lower().split(","):
        name, _, parameter = each.partition(";")
        weights[name.strip()] = parameter.replace(" ", "").strip("0.") != "q="
    for coding in ("gzip", "deflate"):
        if weights.get(coding, weights.get("*", False)):
            return "gzip" if coding == "gzip" else "deflate"
    return None
