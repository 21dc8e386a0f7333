"""The routes that describe the server: /openapi.json for programs, /docs for people, and TorchServe's name for it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from mlctl import __version__
from mlctl.serving.http.messages import JSON, Request, Respond, Response
from mlctl.serving.http.refusing import plain_refusal
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.openapi.document import document

HTML: Final = "text/html; charset=utf-8"
TAG: Final = "Description"

_DOCUMENT: Final[Mapping[int, Mapping[str, Any]]] = {200: {JSON: {"type": "object", "required": ["openapi", "paths"]}}}
_PAGE: Final[Mapping[int, Mapping[str, Any]]] = {200: {"text/html": {"type": "string"}}}


def routes(all_routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes that describe all of the server's, themselves included."""
    description = _Description()
    found = (
        _route("/openapi.json", description.in_json, Operation("This description, OpenAPI 3.1", TAG, None, _DOCUMENT)),
        _route(
            "/api-description", description.in_json, Operation("The same, as TorchServe has it", TAG, None, _DOCUMENT)
        ),
        _route("/docs", _page, Operation("A page to read and try it", TAG, None, _PAGE)),
    )
    description.routes = (*all_routes, *found)
    return found


class _Description:
    """The document, which is written when somebody asks for it first."""

    def __init__(self) -> None:
        self.routes: tuple[Route, ...] = ()
        self._written = b""

    def in_json(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Answer with it."""
        if not self._written:
            self._written = document(self.routes, __version__)
        respond(Response(200, self._written))


def _page(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    content, headers = page()
    respond(Response(200, content, HTML, headers))


@cache
def page() -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """The page, which needs nothing from any network but /openapi.json, and its headers.

    Its policy lets the page's own style and script run, known by their hashes, and nothing else.
    """
    folder = Path(__file__).parent
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (folder / "page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    )
    return html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode(), headers


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _route(path: str, handler: Any, operation: Operation) -> Route:
    return Route("GET", path, handler, "open", plain_refusal, operation)
