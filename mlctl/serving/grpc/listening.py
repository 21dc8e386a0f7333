"""Where gRPC comes in. Nothing of gRPC is imported before somebody asks for it."""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlctl.errors import MissingExtra
from mlctl.serving.catalogue import Catalogue
from mlctl.serving.guards.caller import Guard
from mlctl.serving.settings import Limits, Listening

if TYPE_CHECKING:
    from mlctl.serving.grpc.calls import Account
    from mlctl.serving.grpc.listener import GrpcListener


async def listen_grpc(
    catalogue: Catalogue,
    guard: Guard,
    listening: Listening,
    limits: Limits,
    *,
    account: "Account",
    max_batch_size: int,
) -> "GrpcListener":
    """Take calls of gRPC on `listening.grpc_port`, on the running event loop, and answer them.

    Raises MissingExtra where gRPC is not installed, UsageError for a port that is taken or an address that is not this
    machine's, and what TLS raises.
    """
    require_grpc()
    # What callers do wrong would else stand on stderr in gRPC's own words, between the lines of the logs.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from mlctl.serving.grpc.calls import Reception  # 50 ms that a server without gRPC does not wait
    from mlctl.serving.grpc.listener import started

    return await started(catalogue, Reception(guard, account, limits.slow_seconds), listening, limits, max_batch_size)


def require_grpc() -> None:
    """Raise MissingExtra where gRPC is not installed; nothing of it is imported."""
    if find_spec("grpc") is None or find_spec("google") is None or find_spec("google.protobuf") is None:
        raise MissingExtra("gRPC is not installed", next="`pip install 'mlctl-toolchain[grpc]'`, or leave gRPC out")
