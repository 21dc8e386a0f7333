"""What load balancers ask: gRPC's health checking protocol."""

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_server import SECONDS, Server, serving
from grpc_tritons import triton_client

from mlctl.serving.grpc.health_messages import HealthCheckRequest, HealthCheckResponse

SERVICES = ("", "inference.GRPCInferenceService", "grpc.health.v1.Health")
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


def check(channel: grpc.Channel, service: str) -> int:
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    return int(call(HealthCheckRequest(service=service), timeout=SECONDS).status)


def watch(channel: grpc.Channel, service: str) -> Iterator[int]:
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    return (each.status for each in call(HealthCheckRequest(service=service), timeout=SECONDS))


def test_the_server_is_healthy_while_a_model_takes_requests(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel, triton_client(server) as manager:
        assert [check(channel, service) for service in SERVICES] == [SERVING] * 3
        names = {each.name for each in manager.get_model_repository_index().models}
        manager.unload_model("echo")
        assert [check(channel, service) for service in SERVICES] == [SERVING] * 3
        for name in names - {"echo"}:
            manager.unload_model(name)
        assert [check(channel, service) for service in SERVICES] == [NOT_SERVING] * 3
        for name in names:
            manager.load_model(name)
        assert check(channel, "") == SERVING


def test_a_service_that_there_is_not_is_unknown(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError, match="there is no service 'other'") as caught:
            check(channel, "other")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert next(watch(channel, "other")) == SERVICE_UNKNOWN


def test_who_watches_is_told_of_every_change(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel, triton_client(server) as manager:
        names = {each.name for each in manager.get_model_repository_index().models}
        watching = watch(channel, "")
        assert next(watching) == SERVING
        for name in names:
            manager.unload_model(name)
        assert next(watching) == NOT_SERVING
        for name in names:
            manager.load_model(name)
        assert next(watching) == SERVING


def test_who_watches_is_told_of_the_end_and_does_not_hold_it_up(tmp_path: Path) -> None:
    with serving(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        watching = watch(channel, "")
        assert next(watching) == SERVING
        server.process.send_signal(signal.SIGTERM)
        assert list(watching) == [NOT_SERVING]
        assert server.ended() == 0
