"""How a server is to work: what a recipe says, and what the command line says over it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlctl.errors import UsageError
from mlctl.recipe import serve_defaults as default

if TYPE_CHECKING:
    from mlctl.recipe.serve import ServeSettings
    from mlctl.serving.settings import Encryption, ServerSettings


@dataclass(frozen=True)
class ServeFlags:
    """What the command line says; None leaves it to the recipe, or to the defaults."""

    host: str | None = None
    port: int | None = None
    grpc_port: int | None = None
    workers: int | None = None
    intra_op_threads: int | None = None
    runtime: Literal["onnxruntime", "openvino"] | None = None
    device: str = "cpu"
    tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    audit: Path | None = None


def server_settings(flags: ServeFlags, asked: "ServeSettings | None" = None, base: Path = Path()) -> "ServerSettings":
    """Everything that a server has to know; `base` is the folder that paths in the recipe start from.

    Raises UsageError for half of what TLS needs, and for an empty address.
    """
    from mlctl.serving.settings import Listening, ServerSettings

    settings = ServerSettings() if asked is None else _of_recipe(asked, base)
    listening, execution = settings.listening, settings.execution
    host = listening.host if flags.host is None else flags.host
    if not host.strip():
        raise UsageError(
            "the address to listen on is empty", next="name one; 0.0.0.0 is every one of IPv4, :: every one of IPv6"
        )
    return ServerSettings(
        listening=Listening(
            host=host,
            port=listening.port if flags.port is None else flags.port,
            grpc_port=listening.grpc_port if flags.grpc_port is None else flags.grpc_port,
            encryption=_encryption(flags) or listening.encryption,
            grace_seconds=listening.grace_seconds,
        ),
        execution=replace(
            execution,
            runtime=flags.runtime or execution.runtime,
            device=flags.device,
            workers=flags.workers or execution.workers,
            intra_op_threads=flags.intra_op_threads or execution.intra_op_threads,
        ),
        batching=settings.batching,
        limits=settings.limits,
        tokens=flags.tokens or settings.tokens,
        audit=flags.audit or settings.audit,
    )


def _of_recipe(asked: "ServeSettings", base: Path) -> "ServerSettings":
    from mlctl.serving.settings import Batching, Encryption, Execution, Limits, Listening, ServerSettings

    encryption = Encryption(base / asked.tls.certificate, base / asked.tls.key) if asked.tls else None
    return ServerSettings(
        listening=Listening(asked.host, asked.port, asked.grpc_port, encryption, asked.grace_seconds),
        execution=Execution(
            asked.runtime,
            workers=None if asked.workers == "auto" else asked.workers,
            intra_op_threads=None if asked.intra_op_threads == "auto" else asked.intra_op_threads,
        ),
        batching=Batching(**asked.batching.model_dump()),
        limits=Limits(
            max_request_bytes=asked.max_request_bytes,
            max_connections=asked.max_connections,
            timeout_seconds=asked.timeout_seconds,
            slow_seconds=asked.slow_seconds,
            idle_seconds=asked.idle_seconds,
        ),
        tokens=base / asked.tokens if asked.tokens else None,
        audit=base / asked.audit if asked.audit else None,
    )


def _encryption(flags: ServeFlags) -> "Encryption | None":
    from mlctl.serving.settings import Encryption

    if flags.certificate and flags.key:
        return Encryption(flags.certificate, flags.key)
    if flags.certificate or flags.key:
        raise UsageError("TLS needs a certificate and its key", next="give both `--certificate` and `--key`")
    return None


def model_name(text: str) -> str:
    """A name for a model that protocols, files and metrics can carry, from a recipe's or a file's."""
    name = "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "-" for each in text).strip(".-")
    return name[:64] or default.MODEL_NAME
