"""Figures in the text formats of Prometheus (0.0.4) and OpenMetrics (1.0.0).

No client library: those force `_total` on every counter, and Triton's names have none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, TypeAlias

from mlctl.serving.telemetry.statistics import SECONDS, Histogram

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
Form: TypeAlias = Literal["text", "openmetrics"]

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True)
class Sample:
    """One number of a family."""

    labels: Labels
    value: float | Histogram


@dataclass(frozen=True)
class Family:
    """A name, what it means, and its numbers: Histograms where the kind says so, plain numbers elsewhere."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def exposition(families: Sequence[Family], form: Form) -> bytes:
    """The text of all families that have a sample."""
    lines = [line for family in families if family.samples for line in _family(family, form)]
    if form == "openmetrics":
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def wanted_form(accept: str) -> Form:
    """What the header `Accept` asks for: OpenMetrics where it stands before, or beside, plain text; else plain text."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        media, *parameters = (each.strip().lower() for each in part.split(";"))
        if media in weights:
            weights[media] = max(weights[media], _weight(parameters))
    openmetrics, text = weights.values()
    return "openmetrics" if openmetrics > 0 and openmetrics >= text else "text"


def _weight(parameters: Sequence[str]) -> float:
    """RFC 9110, section 12.4.2; what is no number from 0 to 1 weighs nothing."""
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        weight = float(given)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _family(family: Family, form: Form) -> Iterator[str]:
    name, kind = family.name, str(family.kind)
    if form == "openmetrics" and kind == "counter":
        # There a counter's samples end in _total, and its family does not; a name without it has no kind.
        kind = "counter" if name.endswith("_total") else "unknown"
        name = name.removesuffix("_total")
    help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for sample in family.samples:
        if isinstance(sample.value, Histogram):
            yield from _histogram(family.name, sample.labels, sample.value)
        else:
            yield f"{family.name}{_labels(sample.labels)} {_number(sample.value)}"


def _histogram(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    bounds = (*(_number(bound) for bound in SECONDS), "+Inf")
    for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
        yield f"{name}_bucket{_labels((*labels, ('le', bound)))} {count}"
    yield f"{name}_sum{_labels(labels)} {_number(histogram.total)}"
    yield f"{name}_count{_labels(labels)} {histogram.count}"


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    return repr(value)
