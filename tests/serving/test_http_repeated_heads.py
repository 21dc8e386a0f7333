"""A head that comes again is not parsed again, and says what it would have said to the parser."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlctl.serving.http.messages import Request
from mlctl.serving.http.reading import Budget, RequestReader
from mlctl.serving.refusals import Busy, Refused

HEADS = (
    b"POST /v2/models/m/infer?a=1 HTTP/1.1\r\nHost: a\r\nX-Two: words\r\nContent-Length: N\r\n\r\n",
    b"POST /v2/models/m/infer?a=1 HTTP/1.1\r\nHost: a\r\nX-Two: a\r\ncontent-length:N\r\nX-Content-Length: 3\r\n\r\n",
    b"POST /expecting HTTP/1.1\r\nHost: a\r\nContent-Length: N\r\nExpect: 100-continue\r\n\r\n",
    b"POST /old HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0N\r\n\r\n",
    b"POST /offer HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: N \r\n\r\n",
    b"\r\nPOST /after-an-empty-line HTTP/1.1\r\nHost: a\r\nContent-Length: N\r\n\r\n",
    b"POST /bare HTTP/1.1\nHost: a\nContent-Length: N\n\n",
)
BODIES = (b"", b"abcdef", b"\r\n\r\nab", b"GET / H", b"a\r\n\r\nb\r\n\r\n", b"\n" * 11, b"z" * 99, b"z" * 101, HEADS[0])
WHOLE = (
    b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /v2/models/m/infer?a=1 HTTP/1.1\r\nHost: a\r\nX-Two: words\r\nContent-Length: 6x\r\n\r\nabcdef",
    b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
MOST = 100


def with_body(head: bytes, body: bytes) -> bytes:
    """The request whose head says how many bytes its body has."""
    return head.replace(b"N", str(len(body)).encode()) + body


requests = st.one_of(st.builds(with_body, st.sampled_from(HEADS), st.sampled_from(BODIES)), st.sampled_from(WHOLE))


def new_reader(most_held: int = 10**9) -> RequestReader:
    return RequestReader(MOST, Budget(most_held), "127.0.0.1", is_encrypted=False)


def read(pieces: Sequence[bytes]) -> tuple[list[tuple[Request, bool, bool, int]], str]:
    """What is read of the pieces, without the times, and why no more is."""
    reader = new_reader()
    refusal = ""
    try:
        for piece in pieces:
            reader.feed(piece)
    except Refused as refused:
        refusal = refused.what
    return [(replace(each.request, received=0.0), *each[1:]) for each in reader.arrived], refusal


def said(found: tuple[list[tuple[Request, bool, bool, int]], str]) -> tuple[list[object], str]:
    """The same with every request as its fields, for `Request` compares by identity."""
    arrived, refusal = found
    return [(vars(request), *rest) for request, *rest in arrived], refusal


@example([with_body(HEADS[4], b"z" * (MOST + 1))], [])
@settings(max_examples=500)
@given(st.lists(requests, min_size=1, max_size=12), st.lists(st.integers(0, 1000), max_size=4))
def test_requests_are_read_as_the_parser_alone_reads_them(sent: list[bytes], more: list[int]) -> None:
    stream = b"".join(sent)
    places = sorted({0, *accumulate(map(len, sent)), *(place for place in more if place < len(stream))})
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    one_by_one = [stream[place : place + 1] for place in range(len(stream))]
    assert said(read(pieces)) == said(read(one_by_one))
    assert said(read([pieces[0], b"".join(pieces[1:])])) == said(read(one_by_one))


def test_a_repeated_request_takes_from_the_budget_what_a_parsed_one_takes() -> None:
    request = with_body(HEADS[0], BODIES[1])
    first = new_reader()
    first.feed(request)
    held = first.arrived[0].held
    reader = new_reader(3 * held)
    reader.feed(request)
    with pytest.raises(Busy):
        reader.feed(request * 3)
    assert [each.held for each in reader.arrived] == [held] * 3
    assert reader.is_over
