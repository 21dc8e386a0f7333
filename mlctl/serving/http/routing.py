"""Which handler answers which path."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

from mlctl.serving.http.messages import Handler, Request, Respond, Response
from mlctl.serving.refusals import MethodRefused, Refused, Unknown

Scope: TypeAlias = Literal["open", "infer", "admin"]
"""Whom a route serves: everybody; who may use the model that it names; who may manage the server."""

_MOST_FOUND: Final = 1024
_LONGEST_FOUND: Final = 256


@dataclass(frozen=True)
class Operation:
    """What OpenAPI says of a route: schemas are JSON Schema."""

    summary: str
    tag: str
    """The protocol."""
    body: Mapping[str, Any] | None = None
    """Schemas of the body by media type; None where it takes none."""
    answers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Schemas of the answers by status, then media type; refusals are added by whoever writes the document."""
    parameters: tuple[Mapping[str, Any], ...] = ()
    """Of the query and the headers, as OpenAPI's Parameter Objects; those of the path are read from it."""
    is_body_required: bool = True
    """Whether the body may not be left out, where the route takes one."""


@dataclass(frozen=True)
class Route:
    """One method of one path. `{model}` in the path matches one segment, which the handler is given by that name."""

    method: str
    path: str
    handler: Handler
    scope: Scope
    refusal: Callable[[Refused], Response]
    """A refusal in the protocol's own form."""
    operation: Operation
    names_model: Callable[[Request], str | None] | None = None
    """The model that a request asks, where the path does not name it."""
    action: str = ""
    """What is done, as a verb for the audit; empty for what it would call by the scope's name, as `infer`."""


class LaterRoutes:
    """Routes that are made when a path with their first segment is asked for: most callers speak one protocol."""

    def __init__(self, firsts: Sequence[str], make: Callable[[], Sequence[Route]]) -> None:
        """`firsts` are the first segments of all paths that `make` gives; no other route has one of them."""
        self.firsts = tuple(firsts)
        self._make = make

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """All of them, the same ones every time."""
        found = tuple(self._make())
        assert all(_segments(route.path)[0] in self.firsts for route in found), f"a path lies beside {self.firsts}"
        return found


Routes: TypeAlias = Sequence[Route | LaterRoutes]


class Router:
    """Routes by path. A segment that is written out goes before one that is named; a `:verb` may end a segment."""

    def __init__(self, routes: Routes) -> None:
        self._root = _Node()
        self._later: dict[str, LaterRoutes] = {}
        self._with_verbs: set[str] = set()
        """The paths of routes that a `:verb` may follow."""
        for each in routes:
            if isinstance(each, LaterRoutes):
                self._later.update(dict.fromkeys(each.firsts, each))
            else:
                self._add(each)
        self._found: dict[tuple[str, str], tuple[Route, dict[str, str]]] = {}
        """What callers asked for lately: most ask for the same again."""

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and what its named segments are. HEAD goes where GET goes, OPTIONS is answered for every path.

        Raises Unknown where no route has the path, MethodRefused where none of those that have it takes the method.
        """
        found = self._found.get((method, path))
        if found is None:
            found = self._search(method, path)
            if len(self._found) == _MOST_FOUND:
                self._found.clear()
            if len(path) <= _LONGEST_FOUND:
                self._found[method, path] = found
        route, parameters = found
        return route, parameters.copy()

    def _search(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        wanted = "GET" if method == "HEAD" else method
        known: dict[str, Route] = {}
        segments = _segments(path)
        self._take_in(segments[:1])
        for methods, parameters in self._root.find(segments):
            route = methods.get(wanted)
            if route is not None:
                return route, parameters
            # Behind what has verbs, a `:verb` is one that there is not rather than a part of a name.
            if ":" not in segments[-1] or not all(each.path in self._with_verbs for each in methods.values()):
                known.update(methods)
        if method == "OPTIONS" and path == "*":
            self._take_in(tuple(self._later))
            known = {route.method: route for route in self._root}
        if not known:
            raise Unknown(f"there is no {path!r} here; /docs lists what there is")
        allowed = _allowed(known)
        if method != "OPTIONS":
            raise MethodRefused(f"{path!r} does not take {method}", allowed=allowed)
        return _options(next(iter(known.values())), allowed), {}

    def _add(self, route: Route) -> None:
        self._root.add(_segments(route.path), route)
        self._with_verbs.add(route.path.rpartition(":")[0])

    def _take_in(self, firsts: Iterable[str]) -> None:
        """Have the routes below these segments."""
        for first in firsts:
            later = self._later.get(first)
            if later is not None:
                for route in later.routes:
                    self._add(route)
                self._later = {each: other for each, other in self._later.items() if other is not later}


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _allowed(methods: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({"OPTIONS", *methods, *(("HEAD",) if "GET" in methods else ())}))


def _options(route: Route, allowed: tuple[str, ...]) -> Route:
    """Tells everybody which methods a path takes (RFC 9110, section 9.3.7)."""

    def answer(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        respond(Response(204, headers=(("Allow", ", ".join(allowed)),)))

    return Route("OPTIONS", route.path, answer, "open", route.refusal, Operation("What the path takes", "HTTP"))


class _Node:
    """What may follow some segments."""

    def __init__(self) -> None:
        self._fixed: dict[str, _Node] = {}
        self._named: list[tuple[str, str, _Node]] = []
        """What ends the segment, such as `:predict` or nothing, the longest first, with the segment's name."""
        self._methods: dict[str, Route] = {}

    def add(self, segments: Sequence[str], route: Route) -> None:
        if not segments:
            assert route.method not in self._methods, f"{route.method} {route.path} is there twice"
            self._methods[route.method] = route
            return
        first, rest = segments[0], segments[1:]
        if not first.startswith("{"):
            self._fixed.setdefault(first, _Node()).add(rest, route)
            return
        name, _, ending = first[1:].partition("}")
        for other, known, node in self._named:
            if ending == other and name == known:
                node.add(rest, route)
                return
        node = _Node()
        node.add(rest, route)
        self._named.append((ending, name, node))
        self._named.sort(key=lambda each: -len(each[0]))

    def __iter__(self) -> Iterator[Route]:
        yield from self._methods.values()
        for node in (*self._fixed.values(), *(node for _, _, node in self._named)):
            yield from node

    def find(self, segments: Sequence[str]) -> Iterator[tuple[dict[str, Route], dict[str, str]]]:
        """The routes of every way in which the path can be read, the best first."""
        if not segments:
            if self._methods:
                yield self._methods, {}
            return
        first, rest = segments[0], segments[1:]
        if first in self._fixed:
            yield from self._fixed[first].find(rest)
        for ending, name, node in self._named:
            if first.endswith(ending) and len(first) > len(ending):
                for methods, parameters in node.find(rest):
                    yield methods, {name: first[: len(first) - len(ending)], **parameters}
