"""What a recipe can say about serving; it makes no artifact."""

from typing import Annotated, Literal

from pydantic import Field

from mlctl.recipe.base import Count, NotNegative, Positive, Settings


class BatchingSettings(Settings):
    """How requests are joined."""

    max_size: Count = 64
    """Most rows of one call."""

    max_delay_ms: NotNegative = 0.0
    """Longest wait for company; 0 takes what is there."""

    queue: Count = 1024
    """Requests that may wait; more are refused with 503."""

    padding: Annotated[float, Field(ge=1)] = 1.25
    """Most padded tokens per real token in a batch of texts."""


class ServeSettings(Settings):
    """How the last model answers over the network."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose graph is served; the last exported or quantized one, unless this names another."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port for REST; 0 takes a free one."""

    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port for gRPC; null leaves it out."""

    batching: BatchingSettings = BatchingSettings()
    """How requests are joined."""

    workers: Count | Literal["auto"] = "auto"
    """Sessions that answer side by side."""

    intra_op_threads: Count | Literal["auto"] = "auto"
    """Threads of one session."""

    timeout_seconds: Positive = 30.0
    """A request that waited longer is dropped."""

    max_request_bytes: Count = 64 * 2**20
    """A larger request is refused."""
