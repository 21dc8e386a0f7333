"""The ports of a server, which it has before it loads models, and listens on once they answer rightly."""

from dataclasses import dataclass

from mlctl.errors import UsageError
from mlctl.serving.grpc.listening import require_grpc
from mlctl.serving.http.binding import Bound, bind
from mlctl.serving.settings import Listening


@dataclass(frozen=True)
class Ports:
    """Bound, and not listened on."""

    http: Bound
    grpc: Bound | None

    def close(self) -> None:
        """Give back those that nobody has taken."""
        self.http.close()
        if self.grpc is not None:
            self.grpc.close()


async def bind_ports(listening: Listening) -> Ports:
    """The ports that the settings name.

    Raises UsageError for a port that is taken or an address that is not this machine's, MissingExtra where gRPC is
    asked for and not installed, and what TLS raises.
    """
    if listening.grpc_port is not None:
        require_grpc()
    if listening.encryption is not None:
        from mlctl.serving.http.encryption import encrypted  # only who asks for it reads what TLS needs

        encrypted(listening.encryption)
    if listening.port and listening.port == listening.grpc_port:
        raise UsageError(
            f"HTTP and gRPC cannot both have the port {listening.port}",
            next="choose another with `--grpc-port`, 0 for any that is free",
        )
    http = await bind(listening.host, listening.port)
    try:
        grpc = None
        if listening.grpc_port is not None:
            grpc = await bind(listening.host, listening.grpc_port, "--grpc-port")
    except BaseException:
        http.close()
        raise
    return Ports(http, grpc)
