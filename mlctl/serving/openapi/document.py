"""The server's OpenAPI 3.1 document, from what its routes say of themselves."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from mlctl.serving.http.messages import JSON
from mlctl.serving.http.refusing import plain_refusal
from mlctl.serving.http.routing import Route, Scope
from mlctl.serving.refusals import Malformed, Refused

Schema: TypeAlias = Mapping[str, Any]

_NAMED: Final = re.compile(r"{(\w+)}")
_PARAMETERS: Final = {
    "model": "The model's name.",
    "version": "The number of one of its versions.",
    "label": "A label that points to one of its versions.",
}
_SECURITY: Final[Mapping[Scope, Sequence[Mapping[str, Sequence[str]]]]] = {
    "open": (),
    "infer": ({}, {"token": ()}),
    "admin": ({"token": ()},),
}
"""A server without tokens lets everybody infer, and nobody manage."""
_PLAIN: Final = "Refusal"


def document(routes: Sequence[Route], version: str) -> bytes:
    """The document in JSON; `version` is that of the server. Every route lists every status that a refusal can have."""
    forms: dict[bytes, str] = {}
    refusals = {"schemas": {}, "responses": {}}  # type: dict[str, dict[str, Any]]
    _add_form(plain_refusal(Malformed("")).body, forms, refusals)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        form = _add_form(route.refusal(Malformed("")).body, forms, refusals)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, form)
    tags = dict.fromkeys(route.operation.tag for route in routes)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "mlctl serve", "version": version, "summary": "Models, in the protocols of the field."},
            "tags": [{"name": name} for name in tags],
            "paths": paths,
            "components": {**refusals, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


def _operation(route: Route, form: str) -> dict[str, Any]:
    operation = route.operation
    named = [_path_parameter(name) for name in _NAMED.findall(route.path)]
    words = re.findall(r"\w+", route.path)
    found: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*named, *operation.parameters],
        "responses": _responses(route, form),
        "security": _SECURITY[route.scope],
    }
    if operation.body is not None:
        found["requestBody"] = {"required": operation.is_body_required, "content": _contents(operation.body)}
    return found


def _path_parameter(name: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": _PARAMETERS.get(name, name),
    }


def _responses(route: Route, form: str) -> dict[str, Any]:
    """Those of the route, and a refusal for every status; both where a status can be either."""
    found: dict[str, Any] = {}
    for status, by_media in route.operation.answers.items():
        contents = _contents(by_media)
        if JSON in contents and status >= 400:
            contents[JSON] = {"schema": {"anyOf": [by_media[JSON], _reference("schemas", form)]}}
        found[str(status)] = {"description": "Done." if status < 400 else "Not now.", "content": contents}
    for status in _statuses():
        found.setdefault(str(status), _reference("responses", f"{form}{status}"))
    return found


def _contents(by_media: Mapping[str, Schema]) -> dict[str, Any]:
    return {media: {"schema": schema} for media, schema in by_media.items()}


def _add_form(body: bytes, forms: dict[bytes, str], refusals: Mapping[str, dict[str, Any]]) -> str:
    """The name of the form that a protocol's refusals have, which is what one of them looks like.

    Its components are made if it is a new one. What the server refuses before it knows the route has the plain form.
    """
    schema = _schema_of(orjson.loads(body))
    key = orjson.dumps(schema)
    if key in forms:
        return forms[key]
    name = forms[key] = f"{_PLAIN}{len(forms) or ''}"
    refusals["schemas"][name] = schema
    either = [_reference("schemas", each) for each in dict.fromkeys((_PLAIN, name))]
    content = {JSON: {"schema": either[0] if len(either) == 1 else {"anyOf": either}}}
    for status, why in _statuses().items():
        refusals["responses"][f"{name}{status}"] = {"description": why, "content": content}
    return name


def _schema_of(example: Any) -> Schema:
    if isinstance(example, dict):
        return {
            "type": "object",
            "required": list(example),
            "properties": {name: _schema_of(value) for name, value in example.items()},
        }
    if isinstance(example, list):
        return {"type": "array"}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": kinds[type(example)]} if type(example) in kinds else {}


def _statuses() -> dict[int, str]:
    """Every status of a refusal, with what it means."""
    found: dict[int, list[str]] = {}
    for kind in _kinds(Refused):
        found.setdefault(kind.status, []).append((kind.__doc__ or kind.reason).strip())
    return {status: " Or: ".join(found[status]) for status in sorted(found)}


def _kinds(parent: type[Refused]) -> Iterator[type[Refused]]:
    for kind in parent.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
