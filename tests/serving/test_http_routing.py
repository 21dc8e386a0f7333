"""Which handler answers which path."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.http.routing import LaterRoutes, Operation, Route, Router
from mlctl.serving.refusals import MethodRefused, Refused, Unknown


def nothing(request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    """A handler."""


def refusal(refused: Refused) -> Response:
    """A refusal in some form."""
    return Response(refused.status)


def route(method: str, path: str) -> Route:
    """A route that does nothing."""
    return Route(method, path, nothing, "infer", refusal, Operation("", ""))


ROUTER = Router(
    [
        route("GET", "/models"),
        route("POST", "/models"),
        route("GET", "/models/index"),
        route("GET", "/models/{model}"),
        route("DELETE", "/models/{model}"),
        route("POST", "/models/{model}:predict"),
        route("POST", "/models/{model}:re"),
        route("POST", "/models/{model}/infer"),
        route("POST", "/models/{model}/versions/{version}:predict"),
        route("PUT", "/models/{name}/{version}"),
    ]
)


@pytest.mark.parametrize("path", ["/models/digits:foo", "/models/digits/versions/1:foo", "/models/digits:predict:foo"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS"])
def test_a_verb_that_there_is_not_is_no_path(method: str, path: str) -> None:
    with pytest.raises(Unknown):
        ROUTER.find(method, path)


def test_a_colon_may_be_a_part_of_a_name() -> None:
    assert ROUTER.find("GET", "/models/a:b")[1] == {"model": "a:b"}
    with pytest.raises(MethodRefused):
        ROUTER.find("POST", "/models/a:b/1")


@pytest.mark.parametrize(
    ("method", "path", "found", "parameters"),
    [
        ("GET", "/models", "/models", {}),
        ("GET", "/models/", "/models", {}),
        ("GET", "/models/index", "/models/index", {}),
        ("DELETE", "/models/index", "/models/{model}", {"model": "index"}),
        ("HEAD", "/models/a", "/models/{model}", {"model": "a"}),
        ("POST", "/models/a:predict", "/models/{model}:predict", {"model": "a"}),
        ("POST", "/models/a:re:predict", "/models/{model}:predict", {"model": "a:re"}),
        ("GET", "/models/a:predict", "/models/{model}", {"model": "a:predict"}),
        ("POST", "/models/a/infer", "/models/{model}/infer", {"model": "a"}),
        ("PUT", "/models/a/infer", "/models/{name}/{version}", {"name": "a", "version": "infer"}),
        (
            "POST",
            "/models/a/versions/3:predict",
            "/models/{model}/versions/{version}:predict",
            {"model": "a", "version": "3"},
        ),
    ],
)
def test_the_route_that_fits_best_answers(method: str, path: str, found: str, parameters: dict[str, str]) -> None:
    for _ in range(2):  # found, and remembered
        route, named = ROUTER.find(method, path)
        assert (route.path, named) == (found, parameters)
        named["model"] = "changed by a handler"


@pytest.mark.parametrize("path", ["/", "", "/model", "/models/a/b/c", "/models//infer", "/models/a/b:predict/c", "*"])
def test_what_no_route_has_is_unknown(path: str) -> None:
    with pytest.raises(Unknown):
        ROUTER.find("POST", path)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/models", ("GET", "HEAD", "OPTIONS", "POST")),
        ("/models/index", ("DELETE", "GET", "HEAD", "OPTIONS")),
        ("/models/a/infer", ("OPTIONS", "POST", "PUT")),
    ],
)
def test_another_method_is_refused_with_those_that_are_taken(path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodRefused) as refused:
        ROUTER.find("PATCH", path)
    assert refused.value.allowed == allowed


@pytest.mark.parametrize(
    ("path", "allowed"), [("/models/a/infer", "OPTIONS, POST, PUT"), ("*", "DELETE, GET, HEAD, OPTIONS, POST, PUT")]
)
def test_options_says_what_a_path_takes_to_everybody(path: str, allowed: str) -> None:
    found, parameters = ROUTER.find("OPTIONS", path)
    answers: list[Response] = []
    found.handler(Request("OPTIONS", path, {}, b"", "", 0.0), parameters, answers.append)
    assert (found.scope, answers[0].status, answers[0].headers) == ("open", 204, (("Allow", allowed),))


def test_two_routes_of_one_method_and_path_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="twice"):
        Router([route("GET", "/a/{b}"), route("GET", "/a/{b}")])


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "X"]),
    segments=st.lists(st.one_of(st.sampled_from(["models", "index", "infer", "versions", ":predict"]), st.text())),
)
def test_any_path_is_found_or_refused(method: str, segments: list[str]) -> None:
    try:
        found, parameters = ROUTER.find(method, "/" + "/".join(segments))
    except (Unknown, MethodRefused):
        return
    assert found.method in (method, "GET")
    assert all(parameters.values())


def test_what_is_remembered_is_bounded() -> None:
    router = Router([route("GET", "/{model}")])
    for number in range(3000):
        assert router.find("GET", f"/{number}")[1] == {"model": str(number)}
    assert len(router._found) <= 1024


class Made:
    """Makes routes, and counts how often."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths
        self.times = 0

    def __call__(self) -> list[Route]:
        self.times += 1
        return [route("GET", path) for path in self.paths]


def test_routes_are_made_once_and_only_when_their_first_segment_is_asked_for() -> None:
    asked, other = Made("/v1/{model}", "/ping"), Made("/models")
    router = Router([route("GET", "/v2"), LaterRoutes(("v1", "ping"), asked), LaterRoutes(("models",), other)])
    router.find("GET", "/v2")
    with pytest.raises(Unknown):
        router.find("GET", "/nonsense")
    assert (asked.times, other.times) == (0, 0)
    assert router.find("GET", "/v1/m")[1] == {"model": "m"}
    assert router.find("GET", "/ping")[0].path == "/ping"
    with pytest.raises(MethodRefused) as refused:
        router.find("POST", "/v1/m")
    assert refused.value.allowed == ("GET", "HEAD", "OPTIONS")
    assert (asked.times, other.times) == (1, 0)


def test_options_of_the_server_are_those_of_all_routes() -> None:
    later = Made("/models")
    router = Router([route("DELETE", "/{model}"), LaterRoutes(("models",), later)])
    answers: list[Response] = []
    found, parameters = router.find("OPTIONS", "*")
    found.handler(Request("OPTIONS", "*", {}, b"", "", 0.0), parameters, answers.append)
    assert answers[0].headers == (("Allow", "DELETE, GET, HEAD, OPTIONS"),)
    assert later.times == 1


def test_routes_that_are_made_later_lie_where_they_are_said_to() -> None:
    with pytest.raises(AssertionError, match="beside"):
        Router([LaterRoutes(("v1",), Made("/v2"))]).find("GET", "/v1")
