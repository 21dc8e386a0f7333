"""TorchServe's management API: which models there are, and letting versions take requests or no more.

Registering, scaling to one worker or more and unregistering are loading and unloading of what lies in the repository.
Every call answers when it is done, as TorchServe's do with `synchronous=true`; what a version is loaded with is decided
where the server is started, so the other parameters of TorchServe's registration change nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from mlctl.serving.catalogue import Catalogue, Entry
from mlctl.serving.http.messages import JSON, Handler, Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.protocols.bodies import in_json
from mlctl.serving.protocols.changes import Changes, load_for, unload_for
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.protocols.torchserve import refusal
from mlctl.serving.refusals import Conflicting, Malformed, Unknown
from mlctl.serving.repository.names import is_model_name, is_version

TAG: Final = "TorchServe management"

_STATUSES: Final = {"loading": "LOADING", "ready": "READY", "unavailable": "UNLOADED"}
_PAGE: Final = 100
_LARGEST: Final = 2**31 - 1

_TEXT: Final = {"type": "string"}
_DONE: Final = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
_MODELS: Final = {
    "type": "object",
    "required": ["models"],
    "properties": {
        "nextPageToken": _TEXT,
        "models": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["modelName", "modelUrl"],
                "properties": {"modelName": _TEXT, "modelUrl": _TEXT},
            },
        },
    },
}
_DESCRIBED: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["modelName", "modelVersion", "modelUrl", "minWorkers", "maxWorkers", "workers"],
        "properties": {
            "modelName": _TEXT,
            "modelVersion": _TEXT,
            "modelUrl": _TEXT,
            "minWorkers": {"type": "integer"},
            "maxWorkers": {"type": "integer"},
            "workers": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "status"],
                    "properties": {"id": _TEXT, "status": {"enum": sorted(_STATUSES.values())}, "reason": _TEXT},
                },
            },
        },
    },
}


def routes(catalogue: Catalogue) -> tuple[Route, ...]:
    """The routes, all of the admin scope."""
    managing = _Managing(catalogue)
    one, version = "/models/{model}", "/models/{model}/{version}"
    count: Mapping[str, Any] = {"type": "integer", "minimum": 0, "maximum": _LARGEST}
    workers = tuple(_query(name, count) for name in ("min_worker", "max_worker"))
    page = (
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}),
        _query("next_page_token", count),
    )
    url = (
        _query("url", _TEXT, required=True, description="NAME or NAME/VERSION in the repository."),
        _query("model_name", _TEXT, description="NAME again, if anything."),
    )
    scaling = partial(_route, "PUT", parameters=workers, action="scale")
    defaulting = partial(_route, "PUT", action="set-default")
    unregistering = partial(_route, "DELETE", action="unregister")
    return (
        _route("GET", "/models", partial(_list, catalogue), "The models that there are", _MODELS, parameters=page),
        replace(
            _route("POST", "/models", managing.register, "Load a model of the repository", _DONE, parameters=url),
            names_model=lambda request: _in_repository(request.query)[0],
            action="register",
        ),
        _route("GET", one, partial(_describe, catalogue), "A model's live version", _DESCRIBED),
        _route("GET", f"{one}/all", partial(_describe_all, catalogue), "All versions of a model", _DESCRIBED),
        _route("GET", version, partial(_describe, catalogue), "A version of a model", _DESCRIBED),
        scaling(one, managing.scale, "Load a model, or unload it with max_worker=0", _DONE),
        scaling(version, managing.scale, "Load a version, or unload it with max_worker=0", _DONE),
        defaulting(f"{one}/set-default", _set_default, "Refused: labels decide which version is live", None),
        defaulting(f"{version}/set-default", _set_default, "Refused: labels decide which version is live", None),
        unregistering(one, managing.unregister, "Unload all versions of a model", _DONE),
        unregistering(version, managing.unregister, "Unload a version of a model", _DONE),
    )


class _Managing:
    """Calls that change which versions take requests."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._changes = Changes(refusal)

    def register(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Load what the query's `url` names."""
        name, version = _in_repository(request.query)
        status = f'Model "{name}" Version: {{}} registered with 1 initial workers'
        self._changes.start(self._load(request, (name, version), status), respond)

    def scale(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Load a version for one worker or more, unload it for none."""
        name, version = parameters["model"], parameters.get("version")
        least = _number(request.query, "min_worker", 1, 0, _LARGEST)
        most = _number(request.query, "max_worker", least, 0, _LARGEST)
        if most < least:
            raise Malformed("max_worker is less than min_worker")
        of_version = f", version: {version}" if version else ""
        if most == 0:
            status = f"Workers scaled to 0 for model: {name}{of_version}"
            self._changes.start(self._unload(request, (name, version), status), respond)
            return
        if least > 1:
            raise Malformed(
                "the number of workers is the server's own, which `mlctl serve --workers` says: send 0 or 1"
            )
        status = f"Workers scaled to 1 for model: {name}{of_version}"
        self._changes.start(self._load(request, (name, version), status), respond)

    def unregister(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Unload a version, or all."""
        name, version = parameters["model"], parameters.get("version")
        self._changes.start(self._unload(request, (name, version), f'Model "{name}" unregistered'), respond)

    async def _load(self, request: Request, wanted: tuple[str, str | None], status: str) -> Response:
        number = await load_for(request, self._catalogue, *wanted)
        return _done(status.replace("{}", str(number)))

    async def _unload(self, request: Request, wanted: tuple[str, str | None], status: str) -> Response:
        await unload_for(request, self._catalogue, *wanted)
        return _done(status)


def _done(status: str) -> Response:
    return in_json({"status": status})


def _set_default(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    name, version = parameters["model"], parameters.get("version", "VERSION")
    raise Conflicting(
        f"which version answers is a label of the repository: `mlctl promote {name}@{version} --as production` moves it"
    )


def _in_repository(query: Mapping[str, str]) -> tuple[str, str | None]:
    """The model and version that a url names. Raises Malformed for everything that is not of the repository."""
    url = query.get("url", "")
    name, slash, version = url.partition("/")
    if not is_model_name(name) or (slash and not is_version(version)):
        raise Malformed(f"url is NAME or NAME/VERSION of a model in the server's repository, not {quoted(url)}")
    if query.get("model_name", name) != name:
        raise Malformed(f"a model is served by the name that it has in the repository, {quoted(name)}")
    return name, version or None


def _number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    said = query.get(name)
    if said is None:
        return default
    if not said.isascii() or not said.isdecimal() or len(said) > 10 or not least <= int(said) <= most:
        raise Malformed(f"{name} is a whole number of {least} to {most:,}, not {quoted(said)}")
    return int(said)


def _list(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    limit = _number(request.query, "limit", _PAGE, 1, 1000)
    start = _number(request.query, "next_page_token", 0, 0, _LARGEST)
    names = catalogue.names
    models = [{"modelName": name, "modelUrl": name} for name in names[start : start + limit]]
    more = {"nextPageToken": str(start + limit)} if start + limit < len(names) else {}
    respond(in_json({**more, "models": models}))


def _describe(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    name, version = parameters["model"], parameters.get("version")
    wanted = version or str(catalogue.find(name).signature.version)
    found = [entry for entry in catalogue.entries(name) if str(entry.version) == wanted]
    if not found:
        raise Unknown(f"there is no version {quoted(wanted)} of the model {quoted(name)}")
    respond(in_json([_described(entry) for entry in found]))


def _describe_all(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    respond(in_json([_described(entry) for entry in catalogue.entries(parameters["model"])]))


def _described(entry: Entry) -> Mapping[str, object]:
    """One version; where TorchServe has workers, here is the one process, ready for it or not."""
    count = int(entry.state == "ready")
    worker = {"id": str(entry.version), "status": _STATUSES[entry.state]}
    return {
        "modelName": entry.name,
        "modelVersion": str(entry.version),
        "modelUrl": f"{entry.name}/{entry.version}",
        "minWorkers": count,
        "maxWorkers": count,
        "workers": [{**worker, "reason": entry.reason} if entry.reason else worker],
    }


def _query(name: str, schema: Mapping[str, Any], *, required: bool = False, description: str = "") -> Mapping[str, Any]:
    described = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": required, "schema": schema, **described}


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    result: Mapping[str, Any] | None,
    *,
    parameters: tuple[Mapping[str, Any], ...] = (),
    action: str = "",
) -> Route:
    answers: Mapping[int, Mapping[str, Any]] = {200: {JSON: result}} if result else {}
    operation = Operation(summary, TAG, None, answers, parameters)
    return Route(method, path, handler, "admin", refusal, operation, action=action)
