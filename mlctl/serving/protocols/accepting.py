"""Which form of answer a caller takes: the header `Accept` (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence
from typing import Final

from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Unacceptable

_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def accepted(header: str, offered: Sequence[str]) -> str:
    """The media type that the caller prefers among those that there are; the first where it is the same to him.

    Raises Unacceptable where he takes none of them.
    """
    if not header.strip():
        return offered[0]
    ranges = [_range(each) for each in header.split(",")]
    best = max(offered, key=lambda media: _weight(media, ranges))
    if _weight(best, ranges) <= 0:
        raise Unacceptable(f"the answer can be {' or '.join(offered)}, and not {quoted(header)}")
    return best


def _range(text: str) -> tuple[str, float]:
    """A media range and its quality; one whose quality cannot be read has the highest, as if it had none."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q" and _QUALITY.fullmatch(value.strip()):
            return media, float(value)
    return media, 1.0


def _weight(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the range that names the media type most closely."""
    for name in (media, f"{media.partition('/')[0]}/*", "*/*"):
        found = [quality for each, quality in ranges if each == name]
        if found:
            return max(found)
    return 0.0
