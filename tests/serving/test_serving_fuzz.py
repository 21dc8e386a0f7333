"""Every route of a real server, asked whatever its own description allows, and what it does not."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from conftest import Lab, new_lab
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance
from served_processes import ServedProcess, served

KNOWN = {"model": "whole", "version": "1", "label": "production"}
"""What parts of paths are called, so that requests reach what lies behind them."""
EXAMPLES = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """With a model of images that are rows of columns."""
    made = new_lab(tmp_path_factory.mktemp("fuzzed"))
    published = made("publish whole.yaml --to models --as production --threads 1 --quiet")
    assert published.code == 0, published.err
    return made


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[ServedProcess]:
    """Of that model, without tokens: nobody may unload it."""
    with served(lab, "--repository models --quiet") as server:
        yield server
        assert server.end().code == 0


@pytest.fixture(scope="module")
def description(server: ServedProcess) -> Any:
    """What the server says of itself, with real names in its paths."""
    found = orjson.loads(server.ask("GET", "/openapi.json").body)
    for operations in found["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in KNOWN:
                    parameter["schema"] = {"enum": [KNOWN[parameter["name"]]]}
    return found


def test_no_route_answers_with_a_failure_of_the_server_or_a_status_that_it_does_not_tell(
    description: Any, server: ServedProcess
) -> None:
    schema = schemathesis.openapi.from_dict(description)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            response = case.call(base_url=server.announced["http"])
            case.validate_response(response, checks=[not_a_server_error, status_code_conformance])

        ask()
    assert asked >= EXAMPLES * 10
    assert server.ask("GET", "/v2/models/whole/ready").status == 200
