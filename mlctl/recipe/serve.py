"""What a recipe can say about serving; it makes no artifact."""

from typing import Annotated, Literal

from pydantic import Field

from mlctl.recipe import serve_defaults as default
from mlctl.recipe.base import Count, NotNegative, Positive, Settings


class BatchingSettings(Settings):
    """How requests are joined."""

    max_size: Count = default.MAX_SIZE
    """Most rows of one call."""

    max_delay_ms: NotNegative = default.MAX_DELAY_MS
    """Longest wait for company; 0 takes what is there."""

    queue: Count = default.QUEUE
    """Requests that may wait; more are refused with 503."""

    padding: Annotated[float, Field(ge=1)] = default.PADDING
    """Most padded tokens per real token in a batch of texts."""


class EncryptionSettings(Settings):
    """TLS, with PEM files beside the recipe."""

    certificate: str
    """The certificate, with those that vouch for it behind it."""

    key: str
    """Its private key."""


class ServeSettings(Settings):
    """How the last model answers over the network."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose graph is served; the last exported or quantized one, unless this names another."""

    host: str = default.HOST
    """Address to listen on."""

    port: Annotated[int, Field(ge=0, le=65535)] = default.PORT
    """Port for REST; 0 takes a free one."""

    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port for gRPC; null leaves it out."""

    tls: EncryptionSettings | None = None
    """Null speaks without encryption."""

    tokens: str | None = None
    """The file that `mlctl token` writes, beside the recipe; null serves everybody, and nobody manages the server."""

    audit: str | None = None
    """A file that gets a line for every request: who used which version when."""

    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """What runs the graph."""

    batching: BatchingSettings = BatchingSettings()
    """How requests are joined."""

    workers: Count | Literal["auto"] = "auto"
    """Batches that are computed side by side; `auto` is one between two reads of the network for a model that answers
    in less than half a millisecond, else one for every core."""

    intra_op_threads: Count | Literal["auto"] = "auto"
    """Threads of one computation; `auto` is one."""

    timeout_seconds: Positive = default.TIMEOUT_SECONDS
    """A request that waited longer is dropped."""

    slow_seconds: Positive = default.SLOW_SECONDS
    """A caller who takes longer to send a request's head, or to take its answer, is cut off; a request's body has a
    second more for every 64 KiB that has arrived."""

    idle_seconds: Positive = default.IDLE_SECONDS
    """A connection without a request is closed after this."""

    grace_seconds: NotNegative = default.GRACE_SECONDS
    """How long a server that was told to end waits for what it has accepted."""

    max_request_bytes: Count = default.MAX_REQUEST_BYTES
    """A larger request is refused."""

    max_connections: Count = default.MAX_CONNECTIONS
    """More are turned away."""
