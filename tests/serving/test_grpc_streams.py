"""Many requests over one call: answered as they are ready, refused one by one, ended with the server."""

import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_server import SECONDS, Server, serving
from grpc_tritons import ROWS, rows, triton_client
from v2_harness import WEIGHTS

from mlctl.serving.grpc import open_inference_messages as messages
from mlctl.serving.grpc.stream import AT_ONCE

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@contextmanager
def streaming(server: Server) -> Iterator[tuple[Any, Callable[[], tuple[Any, Any]]]]:
    """A client with a stream, and what waits for its next answer or error."""
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_client(server) as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        yield client, lambda: came.get(timeout=SECONDS)
        client.stop_stream(cancel_requests=True)


def identifier(answer: tuple[Any, Any]) -> str:
    result, error = answer
    assert error is None
    return str(result.get_response().id)


def wait_until_kept(client: Any, count: int) -> None:
    """Until the model `held` keeps so many requests."""
    for _ in range(SECONDS * 1000):
        if client.get_inference_statistics("held").model_stats[0].inference_count == count:
            return
    raise AssertionError(f"the server never kept {count} requests")


def test_every_request_of_a_stream_is_answered_with_its_id(server: Server) -> None:
    with streaming(server) as (client, following):
        for number in range(AT_ONCE + 50):
            client.async_stream_infer("linear", rows(np.full((1, 4), number, np.float32)), request_id=str(number))
        answers = [following() for _ in range(AT_ONCE + 50)]
    found = {int(identifier(each)): each[0].as_numpy("scores")[0] for each in answers}
    assert sorted(found) == list(range(AT_ONCE + 50))
    for number, scores in found.items():
        assert np.array_equal(scores, np.full(4, number, np.float32) @ WEIGHTS * 2)


def test_answers_come_in_the_order_in_which_they_are_ready(server: Server) -> None:
    with streaming(server) as (client, following), triton_client(server) as manager:
        for name in ("first", "second", "third"):
            client.async_stream_infer("held", rows(), request_id=name)
        client.async_stream_infer("linear", rows(), request_id="quick")
        assert identifier(following()) == "quick"
        wait_until_kept(manager, 3)
        manager.load_model("held")
        assert [identifier(following()) for _ in range(3)] == ["third", "second", "first"]


def test_a_refused_request_costs_the_stream_nothing(server: Server) -> None:
    with streaming(server) as (client, following):
        client.async_stream_infer("nothing", rows())
        result, error = following()
        assert (result, error.message()) == (None, "there is no model 'nothing'")
        client.async_stream_infer("linear", rows(ROWS[:, :3]))
        result, error = following()
        assert result is None
        assert "takes the shape [-1, 4]" in error.message()
        client.async_stream_infer("linear", rows(), request_id="good")
        assert identifier(following()) == "good"


def test_a_refusal_bears_its_request_s_id(server: Server) -> None:
    asked = messages.ModelInferRequest(model_name="nothing", id="seven").SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        answers = channel.stream_stream(PATH)(iter((asked, b"\xff no message")), timeout=SECONDS)
        found = [messages.ModelStreamInferResponse.FromString(each) for each in answers]
    told = {each.infer_response.id: each.error_message for each in found}
    assert told == {"seven": "there is no model 'nothing'", "": "the message is no ModelInferRequest"}


def test_no_more_is_read_of_a_stream_than_may_wait(server: Server) -> None:
    request = messages.ModelInferRequest(model_name="held")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1, 2, 3, 4])
    body = request.SerializeToString()
    with grpc.insecure_channel(server.address) as channel, triton_client(server) as manager:
        answers = channel.stream_stream(PATH)(iter([body] * (AT_ONCE + 3)), timeout=SECONDS)
        wait_until_kept(manager, AT_ONCE)
        manager.load_model("held")
        for _ in range(AT_ONCE):
            next(answers)
        wait_until_kept(manager, 3)
        manager.load_model("held")
        assert len(list(answers)) == 3


def test_requests_are_dropped_where_the_stream_is_cancelled(server: Server) -> None:
    with triton_client(server) as manager:
        with streaming(server) as (client, _):
            client.async_stream_infer("held", rows())
            client.async_stream_infer("held", rows())
            wait_until_kept(manager, 2)
        for _ in range(SECONDS * 1000):
            if manager.get_inference_statistics("held").model_stats[0].inference_stats.fail.count == 2:
                break
        else:
            raise AssertionError("they were never dropped")
        manager.load_model("held")


def test_a_stream_ends_with_the_server_once_what_it_had_read_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as server, streaming(server) as (client, following):
        client.async_stream_infer("linear", rows(), request_id="read")
        assert identifier(following()) == "read"
        server.process.send_signal(signal.SIGTERM)
        result, error = following()
        assert result is None
        assert (error.status(), error.message()) == ("StatusCode.UNAVAILABLE", "the server is about to end")
        assert server.ended() == 0


def test_a_stream_whose_answers_are_not_taken_is_ended(tmp_path: Path) -> None:
    request = messages.ModelInferRequest(model_name="texts")
    request.inputs.add(name="in_object", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"x" * 400_000)
    body = request.SerializeToString()
    with serving(tmp_path, "--slow-seconds", "0.3") as server, grpc.insecure_channel(server.address) as channel:
        # More than the window of a client that asks for no answer ever holds.
        answers = channel.stream_stream(PATH)(iter([body] * 100), timeout=SECONDS)
        end = time.monotonic() + SECONDS
        while not any(f"{PATH} 408" in line for line in server.lines):
            assert time.monotonic() < end, "it was never ended"
        with pytest.raises(grpc.RpcError, match=r"an answer was not taken within 0\.3 s") as caught:
            list(answers)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
