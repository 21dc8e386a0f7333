"""Every call of the protocol that applies, by the real tritonclient from another process."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_server import MAX_BATCH_SIZE, SECONDS, Server, serving
from grpc_tritons import ROWS, asked, refused, rows, triton_client
from tritonclient.grpc import InferRequestedOutput
from v2_harness import LABELS, WEIGHTS, Computed, Versions, linear_graph

import mlctl
from mlctl.runtime.running import Port
from mlctl.serving.grpc import open_inference_messages as messages
from mlctl.serving.grpc.calls import Call, Kind
from mlctl.serving.grpc.descriptions import Descriptions


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_the_server_says_that_it_lives_and_what_it_is(server: Server) -> None:
    with triton_client(server) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        told = client.get_server_metadata(as_json=True)
    assert told == {
        "name": "mlctl",
        "version": mlctl.__version__,
        "extensions": ["classification", "model_configuration", "model_repository", "statistics"],
    }


def test_a_model_is_ready_only_where_there_is_one(server: Server) -> None:
    with triton_client(server) as client:
        named = [("linear", ""), ("linear", "1"), ("linear", "3"), ("linear", "one"), ("nothing", "")]
        assert [client.is_model_ready(name, version) for name, version in named] == [True, True, False, False, False]


def test_a_model_is_described(server: Server) -> None:
    with triton_client(server) as client:
        told = client.get_model_metadata("linear", as_json=True)
        of_one = client.get_model_metadata("linear", "1")
        with refused("NOT_FOUND", "version '7'"):
            client.get_model_metadata("linear", "7")
    assert told == {
        "name": "linear",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": ["-1", "3"]},
            {"name": "best", "datatype": "INT64", "shape": ["-1"]},
        ],
    }
    assert of_one.versions == ["1"]


def test_a_model_is_configured_as_triton_reads_it(server: Server) -> None:
    with triton_client(server) as client:
        joined = client.get_model_config("linear").config
        alone = client.get_model_config("fixed").config
        halves = client.get_model_config("halves").config
    assert (joined.name, joined.backend, joined.max_batch_size) == ("linear", "onnxruntime", MAX_BATCH_SIZE)
    assert joined.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert [(each.name, each.data_type, list(each.dims)) for each in joined.input] == [("x", 11, [4])]
    assert [(each.name, each.data_type, list(each.dims)) for each in joined.output] == [
        ("scores", 11, [3]),
        ("best", 9, [1]),
    ]
    assert (joined.output[1].HasField("reshape"), list(joined.output[1].reshape.shape)) == (True, [])
    assert list(joined.version_policy.specific.versions) == [2]
    assert (alone.max_batch_size, list(alone.input[0].dims)) == (0, [2, 3])
    assert alone.WhichOneof("scheduling_choice") is None
    assert halves.input[0].data_type == 14


def test_what_triton_has_no_name_for_is_configured_as_invalid() -> None:
    odd = Computed("odd", 1, linear_graph(1))
    odd.signature = replace(odd.signature, outputs=(Port("out", "complex64", (None,)),))
    described = Descriptions(Versions().put(odd), MAX_BATCH_SIZE)
    kind = Kind("service", "ModelConfig", messages.ModelConfigRequest, "infer")
    asking = described.model_config(messages.ModelConfigRequest(name="odd"), Call(kind, b"", "", {}, "", 0.0))
    assert asyncio.run(asking).config.output[0].data_type == messages.DataType.TYPE_INVALID


def test_an_answer_is_the_model_s(server: Server) -> None:
    with triton_client(server) as client:
        answer = client.infer("linear", rows(), request_id="seven")
        older = client.infer("linear", rows(), model_version="1")
    response = answer.get_response()
    assert (response.model_name, response.model_version, response.id) == ("linear", "2", "seven")
    # Products and sums of small eighths are exact in float32.
    assert np.array_equal(answer.as_numpy("scores"), ROWS @ WEIGHTS * 2)
    assert np.array_equal(answer.as_numpy("best"), (ROWS @ WEIGHTS).argmax(axis=1))
    assert np.array_equal(older.as_numpy("scores"), ROWS @ WEIGHTS)


def test_outputs_come_in_the_order_in_which_they_are_asked_for(server: Server) -> None:
    with triton_client(server) as client:
        both = client.infer("linear", rows(), outputs=[InferRequestedOutput("best"), InferRequestedOutput("scores")])
        one = client.infer("linear", rows(), outputs=[InferRequestedOutput("best")])
        with refused("INVALID_ARGUMENT", "no output 'worst'; it gives 'scores', 'best'"):
            client.infer("linear", rows(), outputs=[InferRequestedOutput("worst")])
        with refused("INVALID_ARGUMENT", "asked for twice"):
            client.infer("linear", rows(), outputs=[InferRequestedOutput("best")] * 2)
    assert [each.name for each in both.get_response().outputs] == ["best", "scores"]
    assert np.array_equal(both.as_numpy("scores"), ROWS @ WEIGHTS * 2)
    assert one.as_numpy("scores") is None


def test_classes_come_with_their_labels(server: Server) -> None:
    with triton_client(server) as client:
        wanted = [InferRequestedOutput("scores", class_count=2)]
        answer = client.infer("linear", rows(), outputs=wanted, model_version="1").as_numpy("scores")
    scores = ROWS @ WEIGHTS
    expected = [
        [f"{scores[row, place]!s}:{place}:{LABELS[place]}".encode() for place in np.argsort(-scores[row])[:2]]
        for row in range(2)
    ]
    assert answer.tolist() == expected


def test_parameters_that_nobody_knows_change_nothing(server: Server) -> None:
    with triton_client(server) as client:
        answer = client.infer("linear", rows(), priority=3, sequence_id="s", parameters={"mood": "good", "n": 3})
    assert np.array_equal(answer.as_numpy("scores"), ROWS @ WEIGHTS * 2)


def test_requests_and_answers_may_be_compressed(server: Server) -> None:
    with triton_client(server) as client:
        for algorithm in ("gzip", "deflate"):
            answer = client.infer("linear", rows(), compression_algorithm=algorithm)
            assert np.array_equal(answer.as_numpy("scores"), ROWS @ WEIGHTS * 2)


def test_statistics_count_rows_batches_and_time(server: Server) -> None:
    with triton_client(server) as client:
        before = client.get_inference_statistics("fixed").model_stats[0]
        client.infer("linear", rows(), model_version="1")
        of_one = client.get_inference_statistics("linear", "1").model_stats
        of_all = client.get_inference_statistics().model_stats
        with refused("NOT_FOUND", "nothing"):
            client.get_inference_statistics("nothing")
    assert (before.inference_count, before.inference_stats.success.count, before.last_inference) == (0, 0, 0)
    (found,) = of_one
    assert (found.name, found.version) == ("linear", "1")
    assert found.inference_count == 2 * found.execution_count > 0
    assert found.inference_stats.success.ns > 0
    assert [each.batch_size for each in found.batch_stats] == [2]
    assert found.batch_stats[0].compute_infer.count == found.execution_count
    assert {"echo", "fixed", "linear", "texts"} <= {each.name for each in of_all}


def test_the_repository_is_listed_loaded_and_unloaded(server: Server) -> None:
    with triton_client(server) as client:
        assert ("echo", "1", "READY", "") in listed(client)
        client.unload_model("echo")
        assert ("echo", "1", "UNAVAILABLE", "unloaded") in listed(client)
        assert client.is_server_ready()
        assert not client.is_model_ready("echo")
        with refused("UNAVAILABLE", "does not take requests"):
            client.get_model_metadata("echo")
        client.load_model("echo")
        assert ("echo", "1", "READY", "") in listed(client)
        with refused("NOT_FOUND", "nothing"):
            client.load_model("nothing")
        with refused("INVALID_ARGUMENT", "'config' cannot be taken"):
            client.load_model("echo", config="{}")


def test_one_version_may_be_loaded_and_unloaded(server: Server) -> None:
    with triton_client(server) as client, grpc.insecure_channel(server.address) as channel:
        parameters: list[dict[str, object]] = [{"string_param": "1"}, {"int64_param": 1}]
        for parameter in parameters:
            unload(channel, parameter)
            assert ("linear", "1", "UNAVAILABLE", "unloaded") in listed(client)
            assert ("linear", "2", "READY", "") in listed(client)
            assert all(each.version == "2" for each in ready(channel).models if each.name == "linear")
            client.load_model("linear")
            load(channel, parameter)
            assert ("linear", "1", "READY", "") in listed(client)
        with pytest.raises(grpc.RpcError, match="must be a text or a whole number") as caught:
            unload(channel, {"bool_param": True})
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="no repository 'other'"):
            called(channel, "RepositoryIndex", messages.RepositoryIndexRequest(repository_name="other"))


def listed(client: object) -> list[tuple[str, str, str, str]]:
    index = client.get_model_repository_index()  # type: ignore[attr-defined]
    return [(each.name, each.version, each.state, each.reason) for each in index.models]


def called(channel: grpc.Channel, name: str, request: object) -> bytes:
    call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
    return bytes(call(request.SerializeToString()))  # type: ignore[attr-defined]


def ready(channel: grpc.Channel) -> messages.RepositoryIndexResponse:
    answer = called(channel, "RepositoryIndex", messages.RepositoryIndexRequest(ready=True))
    found: messages.RepositoryIndexResponse = messages.RepositoryIndexResponse.FromString(answer)
    return found


def load(channel: grpc.Channel, version: dict[str, object]) -> None:
    request = messages.RepositoryModelLoadRequest(model_name="linear")
    request.parameters["version"].MergeFrom(messages.ModelRepositoryParameter(**version))  # type: ignore[arg-type]
    called(channel, "RepositoryModelLoad", request)


def unload(channel: grpc.Channel, version: dict[str, object]) -> None:
    request = messages.RepositoryModelUnloadRequest(model_name="linear")
    request.parameters["version"].MergeFrom(messages.ModelRepositoryParameter(**version))  # type: ignore[arg-type]
    called(channel, "RepositoryModelUnload", request)


@pytest.mark.parametrize(
    ("wish", "status", "match", "trailing"),
    [
        (1, grpc.StatusCode.UNAVAILABLE, "queue is full", {"retry-after": "2", "grpc-retry-pushback-ms": "1500"}),
        (2, grpc.StatusCode.DEADLINE_EXCEEDED, "not there in time", {}),
        (3, grpc.StatusCode.INTERNAL, "the graph failed", {}),
    ],
)
def test_a_refusal_has_gRPC_s_status_and_says_when_to_try_again(
    server: Server, wish: int, status: grpc.StatusCode, match: str, trailing: dict[str, str]
) -> None:
    request = messages.ModelInferRequest(model_name="refusing")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([wish, 0, 0, 0])
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError, match=match) as caught:
        called(channel, "ModelInfer", request)
    assert caught.value.code() == status
    assert {key: value for key, value in caught.value.trailing_metadata() if "retry" in key} == trailing


def test_a_bug_costs_one_caller_his_answer_and_tells_him_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server, triton_client(server) as client:
        server.expected_bugs.append("a secret of the server")
        with refused("INTERNAL") as caught:
            client.infer("refusing", rows(np.full((1, 4), 4, np.float32)))
        assert "secret" not in caught.value.message()
        assert np.array_equal(client.infer("linear", rows()).as_numpy("scores"), ROWS @ WEIGHTS * 2)
        assert any("BUG" in line and "ZeroDivisionError" in line for line in server.lines)


def test_calls_that_are_not_served_are_unimplemented(server: Server) -> None:
    with triton_client(server) as client, refused("UNIMPLEMENTED"):
        client.get_system_shared_memory_status()


def test_what_asks_for_shared_memory_is_told_that_there_is_none(server: Server) -> None:
    given = rows()
    given[0].set_shared_memory("region", 32)
    wanted = InferRequestedOutput("best")
    wanted.set_shared_memory("region", 16)
    with triton_client(server) as client:
        with refused("INVALID_ARGUMENT", "input 'x' lies in shared memory"):
            client.infer("linear", given)
        with refused("INVALID_ARGUMENT", "output 'best' lies in shared memory"):
            client.infer("linear", rows(), outputs=[wanted])


def test_many_callers_get_each_his_own_answer(server: Server) -> None:
    with triton_client(server) as client:
        inputs = [np.full((1, 4), number, np.float32) for number in range(64)]
        answers = [asked(client, "linear", rows(each))[1] for each in inputs]
        found = np.concatenate([each.result(SECONDS).as_numpy("scores") for each in answers])
    assert np.array_equal(found, np.concatenate(inputs) @ WEIGHTS * 2)


def test_every_call_stands_in_the_access_log(tmp_path: Path) -> None:
    with serving(tmp_path) as server, triton_client(server) as client:
        client.infer("linear", rows(), headers={"x-request-id": "mine"})
        with refused("NOT_FOUND"):
            client.infer("nothing", rows(), headers={"x-request-id": "other"})
        lines = server.lines
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert lines == [
        f"ACCESS gRPC {path} 200 anonymous 127.0.0.1 linear 2 mine",
        f"ACCESS gRPC {path} 404 anonymous 127.0.0.1 nothing None other",
    ]
