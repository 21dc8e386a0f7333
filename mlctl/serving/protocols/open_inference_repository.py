"""The model repository extension of the Open Inference Protocol v2: what there is, and what takes requests."""

from collections.abc import Coroutine, Mapping
from typing import Any, Final

import orjson

from mlctl.serving.catalogue import Catalogue, Entry, State
from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.http.refusing import plain_refusal, with_headers
from mlctl.serving.protocols.changes import Changes, load_for, unload_for
from mlctl.serving.protocols.json_tensors import decoded
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Malformed, Refused

STATES: Final[Mapping[State, str]] = {"ready": "READY", "loading": "LOADING", "unavailable": "UNAVAILABLE"}
"""Triton's names."""


def refusal(refused: Refused) -> Response:
    """A refusal in the protocol's form, `{"error": ...}`."""
    return with_headers(plain_refusal(refused), refused)


def index_of(catalogue: Catalogue, *, ready_alone: bool = False) -> tuple[Entry, ...]:
    """Every version of every model, or those that take requests."""
    return tuple(each for each in catalogue.entries() if each.state == "ready" or not ready_alone)


class Repository:
    """The extension's three calls over HTTP."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._changes = Changes(refusal)

    def index(self, request: Request, _: Mapping[str, str], respond: Respond) -> None:
        """Answer with every version, its state, and why it does not take requests."""
        ready_alone = _body(request).get("ready", False)
        if not isinstance(ready_alone, bool):
            raise Malformed(f"ready is {quoted(ready_alone)}, and must be true or false")
        found = [
            {"name": each.name, "version": str(each.version), "state": STATES[each.state], "reason": each.reason}
            for each in index_of(self._catalogue, ready_alone=ready_alone)
        ]
        respond(Response(200, orjson.dumps(found)))

    def load(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Let a version take requests, and answer once it does."""
        wanted = _parameters(request)
        overriding = next((name for name in wanted if name == "config" or name.startswith("file:")), None)
        if overriding is not None:
            raise Malformed(
                f"the parameter {quoted(overriding)} cannot be taken: a version is what the repository holds"
            )
        self._changes.start(_done(load_for(request, self._catalogue, parameters["model"], _version(wanted))), respond)

    def unload(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Let a version, or all, take no more requests, and answer once what they had accepted is finished."""
        version = _version(_parameters(request))
        self._changes.start(_done(unload_for(request, self._catalogue, parameters["model"], version)), respond)


async def _done(change: Coroutine[Any, Any, object]) -> Response:
    await change
    return Response(200, b"{}")


def _body(request: Request) -> dict[str, Any]:
    """The request's object; an empty body is an empty one."""
    return decoded(request.body) if request.body.strip() else {}


def _parameters(request: Request) -> dict[str, Any]:
    found = _body(request).get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"parameters are {quoted(found)}, and must be an object")
    return found


def _version(parameters: Mapping[str, Any]) -> str | None:
    found = parameters.get("version")
    if found is None or isinstance(found, str):
        return found
    if type(found) is int and found > 0:
        return str(found)
    raise Malformed(f"the version is {quoted(found)}, and must be a number")
