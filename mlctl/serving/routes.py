"""Every route of the server: one line for each protocol.

A server is asked in one protocol, as a rule. Open Inference's is there from the beginning; the modules of the others
take as long to import as a small model takes to load, so each is imported when its first request comes.
"""

from collections.abc import Sequence

from mlctl.serving.catalogue import Catalogue
from mlctl.serving.http.routing import LaterRoutes, Route, Routes
from mlctl.serving.protocols import open_inference
from mlctl.serving.telemetry.server_statistics import ServerStatistics


def all_routes(models: Catalogue, statistics: ServerStatistics, max_batch_size: int) -> Routes:
    """The routes of all protocols, of metrics, and of what describes them."""
    first = open_inference.routes(models, max_batch_size)
    later = (
        LaterRoutes(("v1",), lambda: _tensorflow_serving(models)),
        LaterRoutes(("predictions", "ping"), lambda: _torchserve(models)),
        LaterRoutes(("models",), lambda: _torchserve_management(models)),
        LaterRoutes(("invocations",), lambda: _invocations(models)),
        LaterRoutes(("metrics",), lambda: _metrics(models, statistics)),
    )
    firsts = ("openapi.json", "api-description", "docs")
    described = LaterRoutes(firsts, lambda: _described((*first, *(route for each in later for route in each.routes))))
    return (*first, *later, described)


def _tensorflow_serving(models: Catalogue) -> Sequence[Route]:
    from mlctl.serving.protocols import tensorflow_serving

    return tensorflow_serving.routes(models)


def _torchserve(models: Catalogue) -> Sequence[Route]:
    from mlctl.serving.protocols import torchserve

    return torchserve.routes(models)


def _torchserve_management(models: Catalogue) -> Sequence[Route]:
    from mlctl.serving.protocols import torchserve_management

    return torchserve_management.routes(models)


def _invocations(models: Catalogue) -> Sequence[Route]:
    from mlctl.serving.protocols import invocations

    return invocations.routes(models)


def _metrics(models: Catalogue, statistics: ServerStatistics) -> Sequence[Route]:
    from mlctl.serving.telemetry import metrics

    return metrics.routes(models, statistics)


def _described(routes: Sequence[Route]) -> Sequence[Route]:
    from mlctl.serving.openapi import serving as openapi

    return openapi.routes(routes)
