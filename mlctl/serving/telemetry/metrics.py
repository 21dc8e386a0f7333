"""`GET /metrics`: everything that a server counts, for Prometheus."""

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

import orjson

from mlctl import __version__
from mlctl.serving.catalogue import Catalogue, Live, State
from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.refusals import Refused
from mlctl.serving.telemetry.exposition import (
    OPENMETRICS,
    PROMETHEUS,
    Family,
    Kind,
    Labels,
    Sample,
    exposition,
    wanted_form,
)
from mlctl.serving.telemetry.process_figures import process_families
from mlctl.serving.telemetry.server_statistics import ServerStatistics
from mlctl.serving.telemetry.statistics import Histogram, ModelStatistics

REASON_LENGTH: Final = 200
MICROSECONDS: Final = 1e6

_Figure = tuple[str, Kind, str, Callable[[ModelStatistics], float | Histogram]]

FIGURES: Final[tuple[_Figure, ...]] = (
    ("nv_inference_request_success", "counter", "Requests that were answered.", lambda of: of.succeeded),
    ("nv_inference_count", "counter", "Rows that were computed.", lambda of: of.rows),
    ("nv_inference_exec_count", "counter", "Batches that were computed.", lambda of: of.batches),
    (
        "nv_inference_request_duration_us",
        "counter",
        "Time from arrival to answer, summed over requests, in microseconds.",
        lambda of: _microseconds(of.request_seconds),
    ),
    (
        "nv_inference_queue_duration_us",
        "counter",
        "Time in the queue, summed over requests, in microseconds.",
        lambda of: _microseconds(of.queue_seconds),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Time of the batch in which a request was computed, summed over requests, in microseconds.",
        lambda of: _microseconds(of.compute_seconds),
    ),
    ("nv_inference_pending_request_count", "gauge", "Requests that wait or are computed.", lambda of: of.pending),
    ("mlctl_request_seconds", "histogram", "Time from arrival to answer.", lambda of: of.request_seconds),
    ("mlctl_queue_seconds", "histogram", "Time in the queue.", lambda of: of.queue_seconds),
    ("mlctl_compute_seconds", "histogram", "Time of the batch of a request.", lambda of: of.compute_seconds),
)
"""What is said of each version that takes requests; names that begin with nv_ are Triton's."""


def routes(catalogue: Catalogue, statistics: ServerStatistics) -> tuple[Route, ...]:
    """The one route, which is open to everybody."""

    def metrics(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        form = wanted_form(request.headers.get("accept", ""))
        text = exposition(families(catalogue, statistics), form)
        respond(Response(200, text, OPENMETRICS if form == "openmetrics" else PROMETHEUS))

    answers: Mapping[int, Mapping[str, Any]] = {200: {"text/plain": {"type": "string"}}}
    operation = Operation("What the server counts, for Prometheus", "Telemetry", answers=answers)
    return (Route("GET", "/metrics", metrics, "open", _refusal, operation),)


def families(catalogue: Catalogue, statistics: ServerStatistics) -> tuple[Family, ...]:
    """Every figure, as of now."""
    live = catalogue.live()
    return (*_of_models(live), *_of_versions(catalogue), *_of_server(catalogue, statistics), *process_families())


def _of_models(live: Sequence[Live]) -> tuple[Family, ...]:
    labelled = [(_version(each.signature.name, each.signature.version), each.statistics) for each in live]
    failures = tuple(
        Sample((*labels, ("reason", reason)), count)
        for labels, each in labelled
        for reason, count in sorted(each.failed.items())
    )
    counted = tuple(
        Family(name, kind, meaning, tuple(Sample(labels, figure(each)) for labels, each in labelled))
        for name, kind, meaning, figure in FIGURES
    )
    return (*counted, Family("nv_inference_request_failure", "counter", "Requests that were refused.", failures))


def _of_versions(catalogue: Catalogue) -> tuple[Family, ...]:
    entries = catalogue.entries()
    states = tuple(
        Sample((*_version(each.name, each.version), ("state", state)), int(each.state == state))
        for each in entries
        for state in get_args(State)
    )
    refused = tuple(
        Sample((*_version(each.name, each.version), ("reason", each.reason[:REASON_LENGTH])), 1)
        for each in entries
        if each.is_refused
    )
    return (
        Family("mlctl_model_state", "gauge", "1 for the state that a version is in.", states),
        Family("mlctl_version_refused", "gauge", "1 for a version that was tried and found wrong.", refused),
    )


def _of_server(catalogue: Catalogue, statistics: ServerStatistics) -> tuple[Family, ...]:
    responses = tuple(
        Sample((("route", route), ("status", str(status))), count)
        for (route, status), count in sorted(statistics.responses.items())
    )
    refused = tuple(Sample((("reason", reason),), count) for reason, count in sorted(statistics.refusals.items()))
    build = (("version", __version__), ("python", platform.python_version()))
    return (
        Family("mlctl_http_responses_total", "counter", "Answers by route and status.", responses),
        Family("mlctl_http_refused_total", "counter", "Requests that never came as far as a route.", refused),
        _one("mlctl_http_held_bytes", "gauge", "Memory of requests without an answer.", statistics.held_bytes()),
        _one("mlctl_http_connections", "gauge", "Connections that are open.", statistics.connections()),
        _one("mlctl_ready", "gauge", "1 while the server is ready.", int(catalogue.is_ready)),
        _one(
            "mlctl_log_lines_dropped_total",
            "counter",
            "Lines of the log that nobody read fast enough.",
            statistics.dropped_lines(),
        ),
        Family("mlctl_build_info", "gauge", "What serves; always 1.", (Sample(build, 1),)),
    )


def _one(name: str, kind: Kind, meaning: str, value: float) -> Family:
    return Family(name, kind, meaning, (Sample((), value),))


def _version(name: str, version: int) -> Labels:
    return (("model", name), ("version", str(version)))


def _microseconds(histogram: Histogram) -> int:
    return round(histogram.total * MICROSECONDS)


def _refusal(refused: Refused) -> Response:
    return Response(refused.status, orjson.dumps({"error": refused.what}))
