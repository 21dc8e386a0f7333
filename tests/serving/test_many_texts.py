"""Requests of more texts than may wait at the same time."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from sentence_models import save_encoder
from wire_models import Asker, Labelled, catalogue

from mlctl.serving.loading import load_version
from mlctl.serving.settings import Batching, Execution, ServerSettings
from mlctl.serving.shelf import FileVersion

QUEUE = 5


@pytest.fixture
def ask(tmp_path: Path) -> Asker:
    """Every route of a real model of sentences, for which so many may wait; its batcher answers on one event loop."""
    settings = ServerSettings(execution=Execution(workers=1), batching=Batching(queue=QUEUE))
    models = Labelled()
    models.put(load_version(FileVersion("sentences", 1, save_encoder(tmp_path)), settings))
    return Asker(models)


ROUTES = pytest.mark.parametrize("path", ["/v1/models/sentences:predict", "/predictions/sentences", "/invocations"])


@ROUTES
def test_as_many_texts_as_may_wait_are_answered(ask: Asker, path: str) -> None:
    response = ask("POST", path, {"instances": ["the cat sat"] * QUEUE})
    assert response.status == 200, response.body


@ROUTES
def test_more_texts_than_may_ever_wait_are_too_large_and_not_to_come_again(ask: Asker, path: str) -> None:
    response = ask("POST", path, {"instances": ["the cat sat"] * (QUEUE + 1)})
    assert (response.status, response.headers) == (413, ())
    assert f"at most {QUEUE} texts" in str(orjson.loads(response.body))


@pytest.mark.parametrize("path", ["/predictions/sentences", "/invocations"])
def test_texts_of_a_form_are_counted_together(ask: Asker, path: str) -> None:
    def form(count: int) -> bytes:
        part = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nthe cat\r\n'
        return part * count + b"--b--\r\n"

    media = "multipart/form-data; boundary=b"
    assert ask("POST", path, form(QUEUE + 1), media).status == 413
    assert ask("POST", path, form(QUEUE), media).status == 200


def test_rows_are_one_part_however_many_they_are(tmp_path: Path) -> None:
    models = catalogue(tmp_path)
    price: Any = models.find("price")
    price.queue = 1
    rows = [{"area": 1.0, "rooms": 2.0}] * 50
    assert Asker(models)("POST", "/v1/models/price:predict", {"instances": rows}).status == 200
