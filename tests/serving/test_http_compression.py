"""Bodies that travel compressed, in both directions."""

import gzip
import zlib
from collections.abc import Iterator

import pytest
from http_servers import Running, exchange, request_of, running

from mlctl.serving.settings import Limits

MOST_BYTES = 500_000
BODY = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Limits(max_request_bytes=MOST_BYTES)) as server:
        yield server


def _raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:99]) + gzip.compress(BODY[99:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", _raw_deflate(BODY)),
        ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
        ("identity", BODY),
    ],
)
def test_a_compressed_body_arrives_as_it_was(server: Running, coding: str, body: bytes) -> None:
    plain, pressed = exchange(server, request_of("/", BODY) + request_of("/", body, f"Content-Encoding: {coding}"))
    assert pressed.said["digest"] == plain.said["digest"]
    headers = pressed.said["headers"]
    assert isinstance(headers, dict)
    assert headers["content-length"] == str(len(BODY))
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", gzip.compress(bytes(MOST_BYTES + 1)), 413),
        ("gzip", gzip.compress(bytes(MOST_BYTES)) + gzip.compress(b"a"), 413),
        ("gzip", gzip.compress(bytes(MOST_BYTES))[:-4], 400),
        ("deflate", zlib.compress(bytes(50_000_000)), 413),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(50_000_000))), 413),
        ("gzip", gzip.compress(BODY)[:-4], 400),
        ("gzip", gzip.compress(BODY) + b"more", 400),
        ("deflate", zlib.compress(BODY) + b"more", 400),
        ("gzip", BODY, 400),
        ("deflate", b"x", 400),
        ("br", BODY, 415),
        ("gzip, gzip, gzip", BODY, 415),
    ],
)
def test_a_compressed_body_that_cannot_be_taken_is_refused(
    server: Running, coding: str, body: bytes, status: int
) -> None:
    (answer,) = exchange(server, request_of("/", body, f"Content-Encoding: {coding}"))
    assert answer.status == status


def test_a_body_that_grows_is_decompressed_aside_and_answered_in_its_turn(server: Running) -> None:
    large = bytes(MOST_BYTES)
    stream = request_of("/", gzip.compress(large), "Content-Encoding: gzip") + request_of("/after")
    grown, after = exchange(server, stream)
    assert (grown.said["bytes"], after.said["path"]) == (MOST_BYTES, "/after")


@pytest.mark.parametrize(
    ("accepted", "path", "coding"),
    [
        ("gzip", "/text/40000", "gzip"),
        ("deflate", "/text/40000", "deflate"),
        ("br;q=1.0, gzip;q=0.5, *;q=0", "/text/40000", "gzip"),
        ("*", "/text/40000", "gzip"),
        ("gzip;q=0", "/text/40000", None),
        ("gzip; q=0.00, deflate", "/text/40000", "deflate"),
        ("identity", "/text/40000", None),
        ("gzip", "/text/4000", None),
        ("gzip", "/text/4000000", None),
        ("gzip", "/big/40000", None),
    ],
)
def test_an_answer_is_compressed_where_that_is_asked_for_and_worth_it(
    server: Running, accepted: str, path: str, coding: str | None
) -> None:
    plain, pressed = exchange(server, request_of(path) + request_of(path, b"", f"Accept-Encoding: {accepted}"))
    assert pressed.headers["Content-Encoding"] == coding
    if coding is None:
        assert pressed.body == plain.body
    else:
        assert zlib.decompress(pressed.body, 32 + zlib.MAX_WBITS) == plain.body
        assert len(pressed.body) < len(plain.body)
        assert pressed.headers["Vary"] == "Accept-Encoding"
