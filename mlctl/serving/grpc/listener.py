"""The server of gRPC: its services, its port, its end."""

import asyncio
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio

from mlctl.errors import UsageError
from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc import open_inference_messages as messages
from mlctl.serving.grpc.calls import Answer, Kind, OpenCalls, Reception
from mlctl.serving.grpc.descriptions import Descriptions
from mlctl.serving.grpc.health import SERVICE as HEALTH
from mlctl.serving.grpc.health import Health
from mlctl.serving.grpc.infer import infer
from mlctl.serving.grpc.management import Management
from mlctl.serving.grpc.stream import Streams
from mlctl.serving.http.encryption import encrypted
from mlctl.serving.settings import Encryption, Limits, Listening

SERVICE: Final = "inference.GRPCInferenceService"
CALLS_AT_ONCE: Final = 4096
"""Calls that are read, wait, or are computed; more are refused. A call holds some 20 kB beside its request."""
PING_SECONDS: Final = 10
"""Clients may ask so often whether the server is still there; gRPC's own default is five minutes, and cuts them off."""


class GrpcListener:
    """A server that is reached."""

    def __init__(self, server: Any, port: int, streams: Streams, health: Health, open_calls: OpenCalls) -> None:
        self.port = port
        self._server = server
        self._streams = streams
        self._health = health
        self._open_calls = open_calls

    async def drain(self, seconds: float) -> int:
        """Take no more calls, finish what was accepted, and close; gives how many calls were cut off.

        Streams end when the requests that were read of them are answered, with UNAVAILABLE. What is left after the
        time is cut off.
        """
        self._health.end()
        self._streams.end()
        # gRPC does not say how many it cuts off, so its own time is a little longer. A call whose answer is not taken
        # has left our hands, and is not counted.
        stopping = asyncio.create_task(self._server.stop(seconds + 1))
        await asyncio.wait({stopping}, timeout=seconds)
        cut = 0 if stopping.done() else max(1, self._open_calls.count)
        await self._server.stop(0)
        await stopping
        return cut


async def started(
    catalogue: Catalogue, reception: Reception, listening: Listening, limits: Limits, max_batch_size: int
) -> GrpcListener:
    """A server that takes calls. Raises UsageError where it cannot listen, and what TLS raises."""
    streams, health = Streams(catalogue, reception), Health(catalogue, frozenset({SERVICE}))
    server = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=CALLS_AT_ONCE)
    calls = {
        **{kind.name: reception.unary(kind, answer) for kind, answer in _unary(catalogue, max_batch_size)},
        "ModelStreamInfer": streams.handler(
            Kind(SERVICE, "ModelStreamInfer", messages.ModelInferRequest, "infer", _model_name, "infer")
        ),
    }
    # Not as registered methods: grpc.aio then waits for each of them anew before every call, 0.1 ms of CPU for these.
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, calls),
            grpc.method_handlers_generic_handler(HEALTH, health.handlers(reception)),
        )
    )
    port = _bound(server, listening)
    await server.start()
    return GrpcListener(server, port, streams, health, reception.open_calls)


def _unary(catalogue: Catalogue, max_batch_size: int) -> tuple[tuple[Kind, Answer], ...]:
    described, managed = Descriptions(catalogue, max_batch_size), Management(catalogue)
    kind = partial(Kind, SERVICE)
    return (
        (kind("ServerLive", messages.ServerLiveRequest, "open"), described.server_live),
        (kind("ServerReady", messages.ServerReadyRequest, "open"), described.server_ready),
        (kind("ServerMetadata", messages.ServerMetadataRequest, "open"), described.server_metadata),
        (kind("ModelReady", messages.ModelReadyRequest, "infer", _name), described.model_ready),
        (kind("ModelMetadata", messages.ModelMetadataRequest, "infer", _name), described.model_metadata),
        (kind("ModelConfig", messages.ModelConfigRequest, "infer", _name), described.model_config),
        (kind("ModelStatistics", messages.ModelStatisticsRequest, "infer", _name), described.model_statistics),
        (kind("ModelInfer", messages.ModelInferRequest, "infer", _model_name, "infer"), partial(infer, catalogue)),
        (kind("RepositoryIndex", messages.RepositoryIndexRequest, "admin", action="index"), managed.index),
        (kind("RepositoryModelLoad", messages.RepositoryModelLoadRequest, "admin", _model_name, "load"), managed.load),
        (
            kind("RepositoryModelUnload", messages.RepositoryModelUnloadRequest, "admin", _model_name, "unload"),
            managed.unload,
        ),
    )


def _name(request: Any) -> str:
    return str(request.name)


def _model_name(request: Any) -> str:
    return str(request.model_name)


def _options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """What gRPC's core is told (its names: grpc/impl/channel_arg_names.h)."""
    return (
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.server_handshake_timeout_ms", _milliseconds(limits.slow_seconds)),
        ("grpc.max_connection_idle_ms", _milliseconds(limits.idle_seconds)),
        ("grpc.keepalive_time_ms", _milliseconds(limits.idle_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(limits.slow_seconds)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_SECONDS * 1000),
    )


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 2**31 - 1))


def _bound(server: Any, listening: Listening) -> int:
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    address = f"{host}:{listening.grpc_port or 0}"
    try:
        if listening.encryption is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, _credentials(listening.encryption)))
    except RuntimeError as error:
        raise UsageError(
            "gRPC cannot listen here",
            where=address,
            next="choose another port with `--grpc-port`, 0 for any that is free, and an address of this machine",
        ) from error


def _credentials(encryption: Encryption) -> Any:
    # gRPC says of files that are none of TLS only that it failed: who serves HTTP with them says what is wrong.
    encrypted(encryption)
    return grpc.ssl_server_credentials([(encryption.key.read_bytes(), encryption.certificate.read_bytes())])
