"""How a server works, as plain data: a recipe's `serve` step, or a command line, comes to this."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.recipe import serve_defaults as default

if TYPE_CHECKING:
    # It would import NumPy, before whoever serves has said how.
    from mlctl.runtime.running import Runtime


@dataclass(frozen=True)
class Batching:
    """How requests are joined."""

    max_size: int = default.MAX_SIZE
    """Most rows of one call."""
    max_delay_ms: float = default.MAX_DELAY_MS
    """Longest wait for company; 0 takes what is there."""
    queue: int = default.QUEUE
    """Requests that may wait; more are refused as Busy."""
    padding: float = default.PADDING
    """Most padded tokens per real token in a batch of texts."""


@dataclass(frozen=True)
class Execution:
    """What graphs run on; None leaves a number to the machine and the model."""

    runtime: "Runtime" = "onnxruntime"
    device: str = "cpu"
    workers: int | None = None
    """Batches that are computed side by side; with 1 a fast model is computed between two reads of the network."""
    intra_op_threads: int | None = None
    """Threads of one computation."""


@dataclass(frozen=True)
class Limits:
    """What the server takes of one caller."""

    max_request_bytes: int = default.MAX_REQUEST_BYTES
    max_connections: int = default.MAX_CONNECTIONS
    timeout_seconds: float = default.TIMEOUT_SECONDS
    """From the arrival of a request to its answer; then it is refused as Late."""
    slow_seconds: float = default.SLOW_SECONDS
    """A request whose head takes longer to arrive is cut off; its body has a second more for every 64 KiB that came. So
    is a caller who takes longer to take his answers."""
    idle_seconds: float = default.IDLE_SECONDS
    """A connection without a request is closed after it."""


@dataclass(frozen=True)
class Encryption:
    """TLS: PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Listening:
    """Where the server is reached."""

    host: str = default.HOST
    port: int = default.PORT
    """Of HTTP; 0 takes a free one."""
    grpc_port: int | None = None
    """None leaves gRPC out, 0 takes a free one."""
    encryption: Encryption | None = None
    grace_seconds: float = default.GRACE_SECONDS
    """How long a server that was told to end waits for what it has accepted."""


@dataclass(frozen=True)
class ServerSettings:
    """All of it."""

    listening: Listening = field(default_factory=Listening)
    execution: Execution = field(default_factory=Execution)
    batching: Batching = field(default_factory=Batching)
    limits: Limits = field(default_factory=Limits)
    tokens: Path | None = None
    """The file that `mlctl token` writes; None serves everybody, and nobody manages."""
    audit: Path | None = None
    """The file that gets a line for every inference and every management call."""
