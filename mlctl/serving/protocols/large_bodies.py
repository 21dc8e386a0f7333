"""Large bodies: what no right request could be is refused by looks at its bytes, before it is millions of objects.

JSON of 60 MB may be 20 million empty objects, which take seconds and gigabytes, and while they are made nobody else is
answered; how many there would be is counted in milliseconds.
"""

import gc
from collections.abc import Callable
from math import prod
from typing import Final, NamedTuple, TypeVar

import numpy as np

from mlctl.runtime.freed_memory import give_back
from mlctl.serving.catalogue import Live
from mlctl.serving.refusals import Malformed, Refused, TooLarge
from mlctl.serving.signature import Signature

Read = TypeVar("Read")

LARGE: Final = 1 << 16
"""Bytes from which a body is looked at; and of everything so many more are let pass than a model has a use for, since a
request may say things that nobody reads. A smaller body cannot hold as many."""
MOST_ROWS: Final = 1 << 16
"""Rows, texts or images of one request: each is read by itself while other callers wait; tensors are not."""
_LEFT_BEHIND: Final = 4 << 20
"""Bytes of a body from which the memory that its reading took is given back: that takes a millisecond or more."""
_PIECE: Final = 1 << 18
"""Bytes that are looked at at once: the processor's cache holds them."""
_QUOTE: Final = ord('"')


class Counts(NamedTuple):
    """How often JSON's marks are in a body. Without empty lists and objects it has one value more than commas."""

    objects: int
    lists: int
    empty_lists: int
    colons: int
    commas: int


def read_whole(size: int, read: Callable[[], Read]) -> Read:
    """What `read` finds in text of so many bytes.

    A large one is read without a search for garbage on the way, and leaves no memory behind: neither with the C
    library, nor in what a refusal knows of the place where it was raised.
    """
    if size < LARGE:
        return read()
    was_enabled = gc.isenabled()
    # It would look through all values that were made so far, again and again, and there is no garbage among them.
    gc.disable()
    try:
        return read()
    except Refused as refused:
        refused.__context__ = None
        raise refused.with_traceback(None) from None
    finally:
        if was_enabled:
            gc.enable()
        if size >= _LEFT_BEHIND:
            give_back()


def require_tensors(body: bytes | memoryview, signature: Signature) -> None:
    """Raise Malformed for JSON that is no request of the Open Inference Protocol for the model.

    Such a request has an object for every tensor, another for its parameters, and lists as its shapes say.
    """
    if len(body) >= LARGE:
        _refuse_twice(bytes(body), lambda counts: _unlike_tensors(counts, signature))


def require_rows(body: bytes, live: Live) -> None:
    """Raise Malformed, TooLarge for JSON that holds no rows of the model, neither tensors nor what stands for them."""
    if len(body) >= LARGE:
        _refuse_twice(body, lambda counts: _unlike_rows(counts, live))


def require_few(count: int) -> None:
    """Raise TooLarge for more rows than one request may hold where they are not tensors."""
    if count > MOST_ROWS:
        raise TooLarge(
            f"a request holds at most {MOST_ROWS:,} rows, texts or images; send tensors, or several requests"
        )


def counts_outside_strings(body: bytes, counts: Counts) -> Counts:
    """The counts of a body of JSON without what its strings hold, which may be anything; `counts` are those of all."""
    # Of escapes only these two matter to where a string ends.
    body = body.replace(rb"\\", b"__").replace(rb"\"", b"__")
    if body.count(b'"') >= LARGE:
        return counts_of(_outside_quotes(body))
    strings, end = [], -1
    while (start := body.find(b'"', end + 1)) >= 0:
        end = body.find(b'"', start + 1)
        strings.append(body[start + 1 : end if end >= 0 else len(body)])
        if end < 0:
            break
    return Counts(*(whole - inside for whole, inside in zip(counts, counts_of(b'"'.join(strings)), strict=True)))


def counts_of(body: bytes) -> Counts:
    """The counts of a body, its strings included."""
    return Counts(*map(body.count, (b"{", b"[", b"[]", b":", b",")))


def _outside_quotes(body: bytes) -> bytes:
    """The bytes that are not between two quotes; each pair of quotes leaves one."""
    kept, is_inside = [], 0
    whole = np.frombuffer(body, np.uint8)
    for start in range(0, len(whole), _PIECE):
        piece = whole[start : start + _PIECE]
        # Whether the number of quotes so far is odd is left of it however often it overflows.
        inside = np.cumsum(piece == _QUOTE, dtype=np.uint8) + np.uint8(is_inside) & 1
        is_inside = int(inside[-1])
        kept.append(piece[inside == 0].tobytes())
    return b"".join(kept)


def _refuse_twice(body: bytes, unlike: Callable[[Counts], Refused | None]) -> None:
    """Raise what speaks against a body, unless it is only in its strings, which may hold anything."""
    counts = counts_of(body)
    if unlike(counts) is None:
        return
    refused = unlike(counts_outside_strings(body, counts))
    try:
        if refused is not None:
            raise refused
    finally:
        # Else it and this frame, which has the body, would hold each other until garbage is looked for.
        del refused


def _unlike_tensors(counts: Counts, signature: Signature) -> Refused | None:
    if counts.objects > LARGE + 2 * (1 + len(signature.inputs) + len(signature.outputs)):
        return Malformed(f"the request has {counts.objects:,} objects, more than the model has tensors")
    return _unlike_lists(counts, signature, LARGE)


def _unlike_rows(counts: Counts, live: Live) -> Refused | None:
    signature = live.signature
    # Every object in a list of rows names something.
    more = counts.colons
    if all(port.dtype != "object" for port in signature.inputs):
        # As many rows of tensors by name as there are values for; texts may come as objects each.
        more = min(more, (counts.commas + 1) // sum(_values_of_row(port.shape) for port in signature.inputs))
    if counts.objects > LARGE + 2 * MOST_ROWS + more:
        few = f"a request holds at most {MOST_ROWS:,} rows, texts or images that are objects"
        return TooLarge(f"{few}, and this has {counts.objects:,} objects; send tensors, or several requests")
    if refused := _unlike_lists(counts, signature, LARGE + MOST_ROWS + counts.colons):
        return refused
    if any(len(port.shape) < 2 or None in port.shape[1:] for port in signature.inputs):
        return None
    longest = max(MOST_ROWS, *(_values_of_row(port.shape) for port in signature.inputs))
    if counts.commas > LARGE + counts.colons + counts.lists * longest:
        return Malformed(f"the request has {counts.commas + 1:,} values in {counts.lists:,} lists, which are no rows")
    return None


def _unlike_lists(counts: Counts, signature: Signature, more: int) -> Refused | None:
    """What speaks against so many lists, of which `more` need not be parts of tensors."""
    if counts.empty_lists > LARGE:
        return Malformed(f"the request has {counts.empty_lists:,} lists with nothing in them")
    share = max(_lists_for_each_value(port.shape) for port in signature.inputs)
    if counts.lists > more + share * (counts.commas + 1):
        return Malformed(f"the request has {counts.lists:,} lists, which hold fewer values than the model's inputs do")
    return None


def _values_of_row(shape: tuple[int | None, ...]) -> int:
    """At least."""
    return max(1, prod(size or 1 for size in shape[1:]))


def _lists_for_each_value(shape: tuple[int | None, ...]) -> float:
    """Of a tensor in nested lists at most, but for the outermost."""
    return sum(1 / prod(size or 1 for size in shape[place:]) for place in range(1, len(shape)))
