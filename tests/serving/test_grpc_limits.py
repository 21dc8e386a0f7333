"""Time, size, tokens, encryption, the audit and the end: what a server of gRPC lets nobody pass."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from grpc_server import MAX_REQUEST_BYTES, SECONDS, Books, Everybody, Server, serving
from grpc_tritons import ROWS, asked, refused, rows, tensor, triton_client
from tritonclient.utils import InferenceServerException
from v2_harness import WEIGHTS, Versions

from mlctl.errors import DataError, MissingExtra, UsageError
from mlctl.serving.grpc import open_inference_messages as messages
from mlctl.serving.grpc.listening import listen_grpc
from mlctl.serving.guards.audit import audit_of
from mlctl.serving.guards.tokens import Scopes, create_token
from mlctl.serving.settings import Encryption, Limits, Listening

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


class Kept:
    """What the model `held` keeps now."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def now(self) -> tuple[int, int, int]:
        """Requests, how many of them were dropped, and the longest time that one still has, in seconds."""
        (found,) = self._client.get_inference_statistics("held").model_stats
        return found.inference_count, found.inference_stats.fail.count, found.execution_count

    def wait(self, requests: int, dropped: int = 0) -> None:
        """Until it keeps so many."""
        end = time.monotonic() + SECONDS
        while self.now[:2] != (requests, dropped):
            assert time.monotonic() < end, f"it keeps {self.now}"

    def release(self) -> None:
        """Let all be answered."""
        self._client.load_model("held")


@pytest.fixture
def kept(server: Server) -> Iterator[Kept]:
    with triton_client(server) as client:
        held = Kept(client)
        yield held
        held.release()


def test_a_caller_s_deadline_goes_before_the_server_s(server: Server, kept: Kept) -> None:
    with triton_client(server) as client:
        _, late = asked(client, "held", rows(), client_timeout=500.0)
        kept.wait(1)
        assert 490 < kept.now[2] <= 500
        _, without = asked(client, "held", rows())
        kept.wait(2)
        assert 3590 < kept.now[2] <= 3600
        kept.release()
        for answer in (late, without):
            assert np.array_equal(answer.result(SECONDS).as_numpy("scores"), ROWS @ WEIGHTS)


def test_a_request_whose_deadline_passes_is_dropped(server: Server, kept: Kept) -> None:
    with triton_client(server) as client, refused("DEADLINE_EXCEEDED"):
        client.infer("held", rows(), client_timeout=0.05)
    kept.wait(1, dropped=1)


def test_a_request_that_is_cancelled_is_dropped(server: Server, kept: Kept) -> None:
    with triton_client(server) as client:
        context, answer = asked(client, "held", rows())
        kept.wait(1)
        context.cancel()
        with refused("CANCELLED"):
            answer.result(SECONDS)
    kept.wait(1, dropped=1)


def test_requests_are_dropped_where_their_caller_is_killed(server: Server, kept: Kept, tmp_path: Path) -> None:
    request = messages.ModelInferRequest(model_name="held")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1, 2, 3, 4])
    (tmp_path / "request").write_bytes(request.SerializeToString())
    client = f"""
import grpc, pathlib
body = pathlib.Path("request").read_bytes()
grpc.insecure_channel("{server.address}").unary_unary("{INFER}")(body)
"""
    with subprocess.Popen([sys.executable, "-c", client], cwd=tmp_path) as process:
        kept.wait(1)
        process.kill()
    kept.wait(1, dropped=1)


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_a_request_that_is_too_large_is_refused_also_once_it_is_unpacked(server: Server, algorithm: str | None) -> None:
    zeros = np.zeros((MAX_REQUEST_BYTES // 4, 4), np.float32)
    with triton_client(server) as client:
        with refused("RESOURCE_EXHAUSTED", "larger than max"):
            client.infer("linear", rows(zeros), compression_algorithm=algorithm)
        assert client.infer("linear", rows(zeros[:1000])).as_numpy("scores").shape == (1000, 3)


def test_an_answer_may_be_larger_than_a_request(server: Server) -> None:
    texts = np.array([["x" * 500_000, "y" * 500_000]], object)
    with triton_client(server) as client:
        answer = client.infer("texts", [tensor("in_object", texts, "BYTES")])
    assert [len(each) for each in answer.as_numpy("out_object")[0]] == [500_000, 500_000]


def test_a_request_that_does_not_arrive_is_cut_off(tmp_path: Path) -> None:
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait(SECONDS)
        yield from ()

    with serving(tmp_path, "--slow-seconds", "0.2") as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError, match=r"did not arrive within 0\.2 s") as caught:
            channel.stream_unary(INFER)(nothing())
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        end.set()
        with pytest.raises(grpc.RpcError, match="the call has no message") as caught:
            channel.stream_unary(INFER)(iter(()))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert [line.split()[3] for line in server.lines] == ["408", "400"]


def test_there_are_no_more_connections_than_are_allowed(tmp_path: Path) -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]  # else clients in one process would share a connection
    with serving(tmp_path, "--max-connections", "2") as server, ExitStack() as clients:
        first = clients.enter_context(triton_client(server, channel_args=own))
        first.is_server_live()
        with triton_client(server, channel_args=own) as second:
            second.is_server_live()
            with triton_client(server, channel_args=own) as third, refused("UNAVAILABLE"):
                third.is_server_live(client_timeout=SECONDS)
            assert np.array_equal(second.infer("linear", rows()).as_numpy("scores"), ROWS @ WEIGHTS * 2)


def test_a_request_s_name_is_taken_over_and_told(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        _, mine = call.with_call(b"", metadata=(("x-request-id", "mine"),))
        _, made = call.with_call(b"", metadata=(("x-request-id", "not a name"),))
    assert dict(mine.trailing_metadata()) == {"x-request-id": "mine"}
    assert "not" not in dict(made.trailing_metadata())["x-request-id"]


def test_a_refusal_that_repeats_a_caller_s_long_text_still_reaches_him(server: Server) -> None:
    with triton_client(server) as client, refused("NOT_FOUND", "there is no model 'nnnn"):
        client.infer("n" * 100_000, rows())


def test_tokens_decide_who_does_what(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    headers = {
        name: {"authorization": f"Bearer {create_token(tokens, name, scopes)}"}
        for name, scopes in (("one", Scopes(("linear",))), ("admin", Scopes(is_admin=True)))
    }
    with serving(tmp_path, "--tokens", tokens) as server, triton_client(server) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "mlctl"
        texts = [tensor("in_object", np.array([["a"]], object), "BYTES")]
        calls: list[tuple[Any, ...]] = [
            (client.infer, "linear", rows()),
            (client.is_model_ready, "linear"),
            (client.get_model_metadata, "linear"),
            (client.get_model_config, "linear"),
            (client.get_inference_statistics, "linear"),
        ]
        for call, *given in calls:
            with refused("UNAUTHENTICATED"):
                call(*given)
            with refused("UNAUTHENTICATED"):
                call(*given, headers={"authorization": "Bearer mlctl_nobody"})
            call(*given, headers=headers["one"])
        managing: list[tuple[Any, ...]] = [
            (client.load_model, "linear"),
            (client.unload_model, "fixed"),
            (client.get_model_repository_index,),
        ]
        for call, *given in managing:
            with refused("PERMISSION_DENIED"):
                call(*given, headers=headers["one"])
            call(*given, headers=headers["admin"])
        with refused("PERMISSION_DENIED", "does not reach the model 'texts'"):
            client.infer("texts", texts, headers=headers["one"])
        callers = {line.split()[4] for line in server.lines}
    assert callers == {"anonymous", "one", "admin"}


def test_the_audit_has_a_line_for_every_inference_and_every_change(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    with serving(tmp_path, "--audit", audit) as server, triton_client(server) as client:
        client.infer("linear", rows(), model_version="1")
        client.get_model_metadata("linear")
        with refused("NOT_FOUND"):
            client.infer("nothing", rows())
        client.unload_model("echo")
        client.load_model("echo")
        client.get_model_repository_index()
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    told = [(each["action"], each["model"], each["version"], each["status"], each["caller"]) for each in lines]
    assert told == [
        ("infer", "linear", 1, 200, "anonymous"),
        ("infer", "nothing", None, 404, "anonymous"),
        ("unload", "echo", None, 200, "anonymous"),
        ("load", "echo", 1, 200, "anonymous"),
        ("index", "", None, 200, "anonymous"),
    ]
    assert all(each["client"] == "127.0.0.1" and len(each["sha256"]) == 64 for each in lines)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certified(authority: trustme.CA, folder: Path, name: str) -> Encryption:
    """A certificate for a name, as files."""
    made = authority.issue_cert(name)
    encryption = Encryption(folder / f"{name}.pem", folder / f"{name}.key")
    made.private_key_pem.write_to_path(encryption.key)
    for part in made.cert_chain_pems:
        part.write_to_path(encryption.certificate, append=True)
    return encryption


def test_tls_proves_the_server_and_plain_text_is_not_spoken(authority: trustme.CA, tmp_path: Path) -> None:
    encryption = certified(authority, tmp_path, "localhost")
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    options = ("--certificate", encryption.certificate, "--key", encryption.key)
    with serving(tmp_path, *options) as server:
        with triton_client(server, ssl=True, root_certificates=str(trusted)) as client:
            assert np.array_equal(client.infer("linear", rows()).as_numpy("scores"), ROWS @ WEIGHTS * 2)
        with triton_client(server) as client, refused("UNAVAILABLE"):
            client.is_server_live(client_timeout=SECONDS)


def test_what_the_server_cannot_stand_on_is_said_before_it_starts(authority: trustme.CA, tmp_path: Path) -> None:
    one, other = certified(authority, tmp_path, "localhost"), certified(authority, tmp_path, "elsewhere.example")

    async def listened(listening: Listening) -> None:
        books = Books(audit_of(None))
        listener = await listen_grpc(Versions(), Everybody(), listening, Limits(), account=books, max_batch_size=1)
        await listener.drain(0)

    with pytest.raises(DataError, match="not made for the key"):
        asyncio.run(listened(Listening(encryption=Encryption(one.certificate, other.key))))
    with pytest.raises(UsageError, match="cannot be read"):
        asyncio.run(listened(Listening(encryption=Encryption(tmp_path / "none", one.key))))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="gRPC cannot listen here"):
        asyncio.run(listened(Listening(grpc_port=taken.getsockname()[1])))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlctl.serving.grpc.listening.find_spec", lambda _: None)
    listening = listen_grpc(
        Versions(), Everybody(), Listening(), Limits(), account=Books(audit_of(None)), max_batch_size=1
    )
    with pytest.raises(MissingExtra) as caught:
        asyncio.run(listening)
    assert "pip install 'mlctl-toolchain[grpc]'" in caught.value.next


def test_what_was_accepted_is_finished_when_the_server_ends(tmp_path: Path) -> None:
    with serving(tmp_path) as server, triton_client(server) as client, triton_client(server) as manager:
        _, answer = asked(client, "held", rows())
        Kept(manager).wait(1)
        server.process.send_signal(signal.SIGTERM)
        assert np.array_equal(answer.result(SECONDS).as_numpy("scores"), ROWS @ WEIGHTS)
        assert server.ended() == 0
        with refused("UNAVAILABLE"):
            client.is_server_live(client_timeout=SECONDS)


def test_what_is_not_finished_in_time_is_cut_off(tmp_path: Path) -> None:
    options = ("--grace-seconds", "0.1", "--release-seconds", "1000")
    with serving(tmp_path, *options) as server, triton_client(server) as client, triton_client(server) as manager:
        _, answer = asked(client, "held", rows())
        Kept(manager).wait(1)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(InferenceServerException) as caught:
            answer.result(SECONDS)
        assert caught.value.status() in ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED")
        assert server.ended() == 1
