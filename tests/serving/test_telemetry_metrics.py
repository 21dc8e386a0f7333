"""`/metrics`, read by Prometheus's own parsers."""

import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from mlctl import __version__
from mlctl.runtime.running import Port
from mlctl.serving.catalogue import Entry, Live
from mlctl.serving.http.messages import Request, Response
from mlctl.serving.http.routing import Router
from mlctl.serving.inference import Inference
from mlctl.serving.natural.values import Natural
from mlctl.serving.refusals import NotReady
from mlctl.serving.signature import Meaning, Signature
from mlctl.serving.telemetry.exposition import Family, Form, Sample, exposition, wanted_form
from mlctl.serving.telemetry.metrics import routes
from mlctl.serving.telemetry.server_statistics import ServerStatistics
from mlctl.serving.telemetry.statistics import SECONDS, ModelStatistics

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
PLACE = {"model": "digits", "version": "3"}


@dataclass
class Counted:
    """A Live of which the metrics read the signature and the statistics, and nothing else."""

    signature: Signature
    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    timeout_seconds: float = 1.0
    queue: int = 1

    @property
    def natural(self) -> Natural:
        raise NotImplementedError

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        raise NotImplementedError


@dataclass
class Shelved:
    """A Catalogue of models that compute nothing."""

    models: Sequence[Counted] = ()
    versions: tuple[Entry, ...] = ()
    is_ready: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.signature.name for each in self.models))

    def live(self) -> tuple[Live, ...]:
        return tuple(self.models)

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Live:
        raise NotReady(name)

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        return self.versions

    async def load(self, name: str, version: str | None = None) -> None:
        raise NotImplementedError

    async def unload(self, name: str, version: str | None = None) -> None:
        raise NotImplementedError


def counted(name: str = "digits", version: int = 3) -> Counted:
    port = Port("x", "float32", (None, 4))
    return Counted(Signature(name, version, "onnxruntime", (port,), (port,), Meaning()))


def scraped(catalogue: Shelved, statistics: ServerStatistics | None = None, accept: str = "") -> Response:
    found: list[Response] = []
    route, parameters = Router(routes(catalogue, statistics or ServerStatistics())).find("GET", "/metrics")
    assert route.scope == "open"
    headers = {"accept": accept} if accept else {}
    route.handler(Request("GET", "/metrics", headers, b"", "127.0.0.1", 0.0), parameters, found.append)
    [response] = found
    assert response.status == 200
    return response


def numbers(response: Response) -> Numbers:
    """Every sample, as the parser of the form that was answered reads it; each may be there once."""
    is_open = response.media.startswith("application/openmetrics-text")
    page = response.body.decode()
    assert not re.search(r"^nv_\w+_total\b", page, re.MULTILINE)
    families = list((read_openmetrics if is_open else read_text)(page))
    samples = [sample for family in families for sample in family.samples]
    # The parser of plain text puts `_total` to the name of every counter, as OpenMetrics has them.
    found = {
        (re.sub(r"^(nv_\w+)_total$", r"\1", each.name), frozenset(each.labels.items())): each.value for each in samples
    }
    assert len(found) == len(samples)
    assert len({family.name for family in families}) == len(families)
    return found


def of(found: Numbers, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


FORMS = pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])


@FORMS
def test_a_version_is_counted_under_tritons_names(accept: str) -> None:
    model = counted()
    statistics = model.statistics
    statistics.pending = 5
    statistics.executed(rows=7, seconds=0.004)
    for request in (0.006, 0.010):
        statistics.answered(request, queue=request - 0.004, compute=0.004)
    statistics.refused("late")
    found = numbers(scraped(Shelved([model]), accept=accept))
    assert {name: value for (name, labels), value in found.items() if name.startswith("nv_")} == {
        "nv_inference_request_success": 2,
        "nv_inference_request_failure": 1,
        "nv_inference_count": 7,
        "nv_inference_exec_count": 1,
        "nv_inference_request_duration_us": 16_000,
        "nv_inference_queue_duration_us": 8_000,
        "nv_inference_compute_infer_duration_us": 8_000,
        "nv_inference_pending_request_count": 2,
    }
    assert of(found, "nv_inference_request_success", **PLACE) == 2
    assert of(found, "nv_inference_request_failure", **PLACE, reason="late") == 1


@FORMS
@given(times=st.lists(st.sampled_from(SECONDS) | st.floats(0, 20), max_size=30))
def test_a_histogram_counts_what_lies_at_or_below_each_bound(accept: str, times: list[float]) -> None:
    model = counted()
    for each in times:
        model.statistics.answered(each, 0.0, 0.0)
    found = numbers(scraped(Shelved([model]), accept=accept))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "mlctl_request_seconds_bucket"
    }
    assert buckets == {bound: sum(each <= bound for each in times) for bound in (*SECONDS, math.inf)}
    assert of(found, "mlctl_request_seconds_count", **PLACE) == len(times)
    assert of(found, "mlctl_request_seconds_sum", **PLACE) == pytest.approx(sum(times))


@FORMS
def test_states_and_refusals_of_versions_are_told_with_their_reasons(accept: str) -> None:
    why = 'row 3 of "golden"\nwas C:\\wrong'
    entries = (
        Entry("digits", 2, "unavailable", "unloaded"),
        Entry("digits", 3, "ready"),
        Entry("digits", 4, "unavailable", why, is_refused=True),
    )
    found = numbers(scraped(Shelved(versions=entries), accept=accept))
    assert [
        [of(found, "mlctl_model_state", model="digits", version=version, state=state) for version in "234"]
        for state in ("loading", "ready", "unavailable")
    ] == [[0, 0, 0], [0, 1, 0], [1, 0, 1]]
    refused = [dict(labels) for (name, labels) in found if name == "mlctl_version_refused"]
    assert refused == [{"model": "digits", "version": "4", "reason": why}]


@FORMS
def test_the_server_and_its_process_are_told(accept: str) -> None:
    statistics = ServerStatistics(
        connections=lambda: 7,
        held_bytes=lambda: 4096,
        dropped_lines=lambda: 3,
        responses={("/v2/models/{model}/infer", 200): 5, ("", 404): 2},
        refusals={"slow": 4},
    )
    found = numbers(scraped(Shelved(is_ready=False), statistics, accept=accept))
    assert of(found, "mlctl_http_responses_total", route="/v2/models/{model}/infer", status="200") == 5
    assert of(found, "mlctl_http_responses_total", route="", status="404") == 2
    assert of(found, "mlctl_http_refused_total", reason="slow") == 4
    assert (of(found, "mlctl_http_connections"), of(found, "mlctl_http_held_bytes")) == (7, 4096)
    assert of(found, "mlctl_ready") == 0
    assert of(found, "mlctl_log_lines_dropped_total") == 3
    [build] = [dict(labels) for (name, labels) in found if name == "mlctl_build_info"]
    assert build["version"] == __version__
    assert 10**6 < of(found, "process_resident_memory_bytes") < of(found, "process_virtual_memory_bytes")
    assert 0 < of(found, "process_open_fds") <= of(found, "process_max_fds")
    assert of(found, "process_cpu_seconds_total") > 0


def test_the_process_began_when_the_system_says_so() -> None:
    before = time.time()
    asked = subprocess.run(["ps", "-o", "etimes=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    age = float(asked.stdout)
    began = of(numbers(scraped(Shelved())), "process_start_time_seconds")
    # The age is in whole seconds, as of a moment between the two readings; 0.1 s for the roundings of the kernel.
    assert before - age - 1.1 <= began <= time.time() - age + 0.1


@FORMS
@given(model=st.text(min_size=1), reason=st.text())
def test_no_name_and_no_reason_breaks_the_page(accept: str, model: str, reason: str) -> None:
    entries = (Entry(model, 1, "unavailable", reason, is_refused=True),)
    page = scraped(Shelved([counted(model, 1)], entries), accept=accept).body.decode()
    plain = scraped(Shelved([counted("m", 1)], (Entry("m", 1, "unavailable", "r", is_refused=True),)), accept=accept)
    assert page.count("\n") == plain.body.decode().count("\n")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/plain", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", "openmetrics"),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("Application/OpenMetrics-Text ; Q=0.9", "openmetrics"),
        ("application/openmetrics-text;q=nan", "text"),
        (";;q=,,=", "text"),
    ],
)
def test_the_form_is_the_one_that_is_asked_for(accept: str, form: Form) -> None:
    assert wanted_form(accept) == form
    media = scraped(Shelved(), accept=accept).media
    assert media.startswith("application/openmetrics-text" if form == "openmetrics" else "text/plain; version=0.0.4")


@given(st.text(max_size=60))
def test_no_accept_header_is_too_strange(accept: str) -> None:
    assert wanted_form(accept) in ("text", "openmetrics")


def test_a_counter_of_triton_has_no_kind_in_openmetrics_since_its_name_has_no_total() -> None:
    families = (Family("nv_x", "counter", "X.", (Sample((), 1),)), Family("y_total", "counter", "Y.", (Sample((), 2),)))
    assert exposition(families, "openmetrics").decode().splitlines() == [
        "# HELP nv_x X.", "# TYPE nv_x unknown", "nv_x 1",
        "# HELP y Y.", "# TYPE y counter", "y_total 2",
        "# EOF",
    ]  # fmt: skip
    assert exposition(families, "text").decode().splitlines()[1::3] == ["# TYPE nv_x counter", "# TYPE y_total counter"]
