"""The real tritonclient of gRPC, and what tests ask of it."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
from grpc_server import Server
from tritonclient.utils import InferenceServerException

Array = npt.NDArray[Any]
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
"""What the models of weights take."""


@contextmanager
def triton_client(server: Server, **options: Any) -> Iterator[Any]:
    """A client of the server."""
    with triton.InferenceServerClient(server.address, **options) as client:
        yield client


def tensor(name: str, array: Array, datatype: str) -> Any:
    """An input with its values as raw bytes."""
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def rows(array: Array = ROWS) -> list[Any]:
    """The input of the models of weights."""
    return [tensor("x", array, "FP32")]


def asked(client: Any, name: str, inputs: list[Any], **options: Any) -> tuple[Any, Future[Any]]:
    """A request that is on its way: what can cancel it, and its answer."""
    answer: Future[Any] = Future()

    def answered(result: Any, error: Exception | None) -> None:
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    return client.async_infer(name, inputs, answered, **options), answer


@contextmanager
def refused(status: str, match: str | None = None) -> Iterator[Any]:
    """The block must be refused with this status of gRPC."""
    with pytest.raises(InferenceServerException, match=match) as caught:
        yield caught
    assert caught.value.status() == f"StatusCode.{status}"
