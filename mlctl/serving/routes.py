"""Every route of the server: one line for each protocol."""

from mlctl.serving.http.routing import Route
from mlctl.serving.models import Models
from mlctl.serving.openapi import serving as openapi
from mlctl.serving.protocols import (
    invocations,
    open_inference,
    tensorflow_serving,
    torchserve,
    torchserve_management,
)
from mlctl.serving.telemetry import metrics
from mlctl.serving.telemetry.server_statistics import ServerStatistics


def all_routes(models: Models, statistics: ServerStatistics, max_batch_size: int) -> tuple[Route, ...]:
    """The routes of all protocols, of metrics, and of what describes them."""
    found = (
        *open_inference.routes(models, max_batch_size),
        *tensorflow_serving.routes(models),
        *torchserve.routes(models),
        *torchserve_management.routes(models),
        *invocations.routes(models),
        *metrics.routes(models, statistics),
    )
    return (*found, *openapi.routes(found))
