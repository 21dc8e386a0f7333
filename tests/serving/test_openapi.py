"""The server's description of itself: true, valid, and readable without any network."""

import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from wire_models import Asker, catalogue, closed, png

import mlctl
from mlctl.serving.http.messages import JSON, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.openapi.document import document
from mlctl.serving.openapi.serving import page
from mlctl.serving.refusals import Refused

REFUSALS = {400, 401, 403, 404, 413, 415, 429, 503, 504}
"""What every route may answer, whatever it is for."""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    return Asker(catalogue(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def described(ask: Asker) -> Any:
    return ask.json("GET", "/openapi.json")


def resolved(described: Any, value: Any) -> Any:
    while "$ref" in value:
        found = described
        for key in value["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        value = found
    return value


def operations(described: Any) -> list[tuple[str, str, Any]]:
    return [(method, path, each) for path, methods in described["paths"].items() for method, each in methods.items()]


def test_the_document_is_valid_openapi_3_1(described: Any) -> None:
    from schemathesis.specs.openapi import definitions

    assert described["openapi"].startswith("3.1")
    jsonschema.Draft202012Validator(definitions.OPENAPI_31).validate(described)


def test_schemathesis_loads_every_operation(described: Any, ask: Asker) -> None:
    import schemathesis

    schema = schemathesis.openapi.from_dict(described)
    labels = {each.ok().label for each in schema.get_all_operations()}  # type: ignore[union-attr]
    assert labels == {f"{each.method} {each.path}" for each in ask.routes}


def test_every_route_is_described_once_with_its_refusals(described: Any, ask: Asker) -> None:
    found = operations(described)
    assert {(method.upper(), path) for method, path, _ in found} == {(each.method, each.path) for each in ask.routes}
    names = [each["operationId"] for _, _, each in found]
    assert len(set(names)) == len(names)
    for _, path, each in found:
        assert set(map(str, REFUSALS)) <= each["responses"].keys(), path
        named = {parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_every_reference_leads_somewhere(described: Any) -> None:
    text = orjson.dumps(described).decode()
    for reference in set(re.findall(r'"\$ref":"([^"]+)"', text)):
        assert resolved(described, {"$ref": reference})


def test_every_schema_is_one(described: Any) -> None:
    for _, _, operation in operations(described):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for each in (*bodies, *(resolved(described, response) for response in operation["responses"].values())):
            for content in each["content"].values():
                jsonschema.Draft202012Validator.check_schema(content["schema"])


def conforms(described: Any, route: Route, response: Response) -> None:
    """The answer has a status, a media type and a body that the description knows."""
    operation = described["paths"][route.path][route.method.lower()]
    answer = resolved(described, operation["responses"][str(response.status)])
    media = response.media.partition(";")[0]
    schema = answer["content"][media]["schema"]
    value = orjson.loads(response.body) if media == JSON else response.body.decode()
    jsonschema.Draft202012Validator({**schema, "components": described["components"]}).validate(value)


@pytest.mark.parametrize(
    ("method", "path", "body", "template"),
    [
        ("GET", "/v1/models/three", b"", "/v1/models/{model}"),
        ("GET", "/v1/models/none", b"", "/v1/models/{model}"),
        ("GET", "/v1/models/three/metadata", b"", "/v1/models/{model}/metadata"),
        ("POST", "/v1/models/price:predict", {"instances": [[1, 2]]}, "/v1/models/{model}:predict"),
        ("POST", "/v1/models/price:predict", {"inputs": [[1, 2]]}, "/v1/models/{model}:predict"),
        ("POST", "/v1/models/price:predict", {}, "/v1/models/{model}:predict"),
        ("POST", "/v1/models/linear:classify", {"examples": [{"x": [1, 2, 3, 4]}]}, "/v1/models/{model}:classify"),
        ("POST", "/v1/models/price:regress", {"examples": [{"row": [1, 2]}]}, "/v1/models/{model}:regress"),
        ("POST", "/predictions/price", {"area": 1, "rooms": 2}, "/predictions/{model}"),
        ("POST", "/predictions/light", png([0, 255], [255, 255]), "/predictions/{model}"),
        ("POST", "/predictions/light", b"", "/predictions/{model}"),
        ("GET", "/ping", b"", "/ping"),
        ("GET", "/models", b"", "/models"),
        ("GET", "/models?limit=2", b"", "/models"),
        ("GET", "/models?limit=0", b"", "/models"),
        ("GET", "/models/price", b"", "/models/{model}"),
        ("GET", "/models/half_plus_three/all", b"", "/models/{model}/all"),
        ("POST", "/models?url=price", b"", "/models"),
        ("PUT", "/models/price/1/set-default", b"", "/models/{model}/{version}/set-default"),
        ("DELETE", "/models/none", b"", "/models/{model}"),
        ("POST", "/invocations?model=price", {"inputs": [[1, 2]]}, "/invocations"),
        ("POST", "/invocations", {"inputs": [[1, 2]]}, "/invocations"),
        ("GET", "/openapi.json", b"", "/openapi.json"),
        ("GET", "/docs", b"", "/docs"),
    ],
)
def test_answers_are_what_the_description_says(
    described: Any, ask: Asker, method: str, path: str, body: object, template: str
) -> None:
    (route,) = (each for each in ask.routes if (each.method, each.path) == (method, template))
    conforms(described, route, ask(method, path, body))


def test_a_server_that_is_not_ready_is_described_too(described: Any, tmp_path: Path) -> None:
    models = catalogue(tmp_path)
    closed(models, "light", 1)
    ask = Asker(models)
    (route,) = (each for each in ask.routes if each.path == "/ping")
    conforms(described, route, ask("GET", "/ping"))


def test_scopes_say_who_needs_a_token(described: Any) -> None:
    found = described["paths"]
    assert found["/ping"]["get"]["security"] == []
    assert found["/predictions/{model}"]["post"]["security"] == [{}, {"token": []}]
    assert found["/models"]["post"]["security"] == [{"token": []}]


def test_refusals_have_the_form_of_their_protocol() -> None:
    def form(refused: Refused) -> Response:
        return Response(refused.status, orjson.dumps({"why": refused.what, "n": [1], "is": True, "none": None}))

    operation = Operation("Something", "Other")
    route = Route("GET", "/other", lambda *_: None, "open", form, operation)
    described = orjson.loads(document((route,), "1"))
    answer = resolved(described, described["paths"]["/other"]["get"]["responses"]["404"])
    schemas = [resolved(described, each) for each in answer["content"][JSON]["schema"]["anyOf"]]
    assert [each["required"] for each in schemas] == [["error"], ["why", "n", "is", "none"]]
    assert schemas[1]["properties"] == {
        "why": {"type": "string"},
        "n": {"type": "array"},
        "is": {"type": "boolean"},
        "none": {},
    }


def test_torchserves_name_gives_the_same_document(ask: Asker) -> None:
    assert ask("GET", "/api-description").body == ask("GET", "/openapi.json").body


def test_the_page_runs_its_own_script_and_nothing_else(ask: Asker) -> None:
    response = ask("GET", "/docs")
    headers, html = dict(response.headers), response.body.decode()
    policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert policy[directive] == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_needs_no_other_host() -> None:
    html = page()[0].decode()
    assert "//" not in re.sub(r"http-equiv", "", html)
    assert re.findall(r'(?:src|href)="([^"]+)"', html) == ["data:,", "openapi.json", "openapi.json"]
    # Text from the document becomes text on the page, whatever is in it.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=\"", html)
    assert 'name="viewport" content="width=device-width' in html


def test_describing_loads_nothing_heavy() -> None:
    code = (
        "import sys, mlctl.serving.openapi.serving, mlctl.serving.protocols.tensorflow_serving, "
        "mlctl.serving.protocols.torchserve_management, mlctl.serving.protocols.invocations\n"
        "heavy = {'pydantic', 'torch', 'onnx', 'pyarrow', 'PIL', 'tokenizers', 'grpc', 'email', 'http.client'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_document_names_the_servers_version(described: Any) -> None:
    assert described["info"]["version"] == mlctl.__version__
