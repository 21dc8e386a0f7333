"""The few calls of MLflow's REST API that tracking needs (https://mlflow.org/docs/latest/rest-api.html)."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal, TypeAlias
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

SECONDS = 10.0
"""Longest silence of the server."""
LARGEST_ANSWER = 1 << 25
LONGEST_PARAMETER = 500  # what servers before 2.9 keep of a parameter's value
PARAMETERS_AT_ONCE = 100
METRICS_AT_ONCE = 1000
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
NOT_ACTIVE = "INVALID_PARAMETER_VALUE"  # said of a run that was deleted
THERE_ALREADY = "RESOURCE_ALREADY_EXISTS"

STRANGE = "it does not answer like an MLflow server"
NO_ADDRESS = "this is not the http:// or https:// address of an MLflow server"

RunStatus: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class ServerFailed(Exception):
    """The server cannot be reached, or refuses; `code` is MLflow's own word for why, where it gave one."""

    def __init__(self, what: str, code: str = "") -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True)
class Metric:
    """One value of one metric; `timestamp` counts milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


class _NoRedirect(HTTPRedirectHandler):
    """Whoever is sent elsewhere must not take the password there."""

    def redirect_request(self, *_: Any) -> None:
        return None


class MlflowServer:
    """A tracking server at an http:// or https:// address.

    MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, are sent along, as are a name and
    a password in the address. Every method raises ServerFailed.
    """

    def __init__(self, uri: str, environment: Mapping[str, str] = os.environ) -> None:
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise ServerFailed(NO_ADDRESS) from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerFailed(NO_ADDRESS)
        self.uri = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._headers = {"Content-Type": "application/json", **_authorization(parts.netloc, environment)}
        self._opener = build_opener(_NoRedirect())

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, which is made where there is none."""
        for _ in range(2):
            try:
                found = self._call("GET", "experiments/get-by-name", {"experiment_name": name})
                return _text(found, "experiment", "experiment_id")
            except ServerFailed as error:
                if error.code != NOT_THERE:
                    raise
            try:
                return _text(self._call("POST", "experiments/create", {"name": name}), "experiment_id")
            except ServerFailed as error:
                if error.code != THERE_ALREADY:  # somebody else was quicker
                    raise
        raise ServerFailed(f"the experiment {name!r} is there and is not there")

    def create_run(self, experiment: str, name: str, start_time: int) -> str:
        """The id of a new run; `start_time` in milliseconds since 1970."""
        asked = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": start_time,
            "tags": _pairs({"mlflow.runName": name, "mlflow.source.name": "mlctl"}),
        }
        return _text(self._call("POST", "runs/create", asked), "run", "info", "run_id")

    def log_parameters(self, run: str, parameters: Mapping[str, str]) -> None:
        """Keep settings with the run; a long value is cut off."""
        pairs = _pairs({key: value[:LONGEST_PARAMETER] for key, value in parameters.items()})
        for start in range(0, len(pairs), PARAMETERS_AT_ONCE):
            part = pairs[start : start + PARAMETERS_AT_ONCE]
            self._call("POST", "runs/log-batch", {"run_id": run, "params": part})

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None:
        """Add values to the run's metrics."""
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            part = [vars(metric) for metric in metrics[start : start + METRICS_AT_ONCE]]
            self._call("POST", "runs/log-batch", {"run_id": run, "metrics": part})

    def steps(self, run: str, metric: str) -> set[int]:
        """The steps that the server has of a metric."""
        found: set[int] = set()
        page = ""
        while True:
            asked = {"run_id": run, "metric_key": metric} | ({"page_token": page} if page else {})
            answer = self._call("GET", "metrics/get-history", asked)
            try:
                found |= {int(each["step"]) for each in answer.get("metrics", [])}
            except (KeyError, TypeError, ValueError) as error:
                raise ServerFailed(STRANGE) from error
            page = str(answer.get("next_page_token") or "")
            if not page:
                return found

    def update_run(self, run: str, status: RunStatus, end_time: int | None = None) -> None:
        """Say how the run stands; `end_time` in milliseconds since 1970."""
        ended = {} if end_time is None else {"end_time": end_time}
        self._call("POST", "runs/update", {"run_id": run, "status": status, **ended})

    def _call(self, method: Literal["GET", "POST"], path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.uri}/api/2.0/mlflow/{path}"
        data = json.dumps(asked).encode() if method == "POST" else None
        query = "" if data else "?" + urlencode(asked, quote_via=quote)
        try:
            request = Request(url + query, data, self._headers, method=method)
            with self._opener.open(request, timeout=SECONDS) as answer:
                found = json.loads(answer.read(LARGEST_ANSWER))
        except HTTPError as error:
            raise _refused(error) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServerFailed(_printable(f"it cannot be reached ({reason})")) from error
        if not isinstance(found, dict):
            raise ServerFailed(STRANGE)
        return found


def _refused(error: HTTPError) -> ServerFailed:
    with error:
        try:
            told = json.loads(error.read(LARGEST_ANSWER))
            code, message = str(told["error_code"]), str(told.get("message", ""))
        except (OSError, HTTPException, ValueError, TypeError, KeyError):
            return ServerFailed(_printable(f"it answers {error.code} {error.reason}"))
    return ServerFailed(_printable(f"it answers {error.code} {code}: {message}"), code)


def _authorization(netloc: str, environment: Mapping[str, str]) -> dict[str, str]:
    userinfo = netloc.rpartition("@")[0]
    user, _, password = (unquote(part) for part in userinfo.partition(":"))
    user = user or environment.get("MLFLOW_TRACKING_USERNAME", "")
    password = password or environment.get("MLFLOW_TRACKING_PASSWORD", "")
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = environment.get("MLFLOW_TRACKING_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _text(answer: object, *keys: str) -> str:
    """The value that the keys lead to in an answer. Raises ServerFailed where there is none."""
    for key in keys:
        if not isinstance(answer, dict) or key not in answer:
            raise ServerFailed(STRANGE)
        answer = answer[key]
    return str(answer)


def _pairs(named: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in named.items()]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:300]
