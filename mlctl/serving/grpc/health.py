"""What load balancers ask of a server of gRPC (its health checking protocol)."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc

from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc.calls import Call, Context, Kind, Reception, call_of, end
from mlctl.serving.grpc.health_messages import HealthCheckRequest, HealthCheckResponse
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Refused, Unknown

SERVICE: Final = "grpc.health.v1.Health"
LOOK_SECONDS: Final = 0.5
"""Between two looks at whether anything has changed for those who watch."""


class Health:
    """Whether the server takes requests, by the names of its services; the empty one is the whole server's."""

    def __init__(self, catalogue: Catalogue, services: frozenset[str]) -> None:
        self._catalogue = catalogue
        self._services = services | {"", SERVICE}
        self._ending = asyncio.Event()

    def handlers(self, reception: Reception) -> dict[str, Any]:
        """Of the calls, by name."""
        kinds = {name: Kind(SERVICE, name, HealthCheckRequest, "open") for name in ("Check", "Watch")}

        async def watch(_: object, context: Context) -> None:
            with reception.open_calls:
                call = call_of(kinds["Watch"], context)
                try:
                    call.body = await reception.read(context, call)
                    request = HealthCheckRequest.FromString(await reception.one(call, _as_it_came))
                except Refused as refused:
                    end(context, refused, call.request_id)
                    return
                await self._watch(request.service, context)

        return {
            "Check": reception.unary(kinds["Check"], self._check),
            "Watch": grpc.stream_stream_rpc_method_handler(watch),
        }

    def end(self) -> None:
        """Tell those who watch that there is nothing any more, and take leave of them."""
        self._ending.set()

    async def _check(self, request: HealthCheckRequest, _: Call) -> HealthCheckResponse:
        if request.service not in self._services:
            raise Unknown(f"there is no service {quoted(request.service)}")
        return HealthCheckResponse(status=self._status(request.service))

    async def _watch(self, service: str, context: Context) -> None:
        told = None
        while True:
            is_ending, status = self._ending.is_set(), self._status(service)
            if status != told:
                await context.write(HealthCheckResponse(status=status).SerializeToString())
                told = status
            if is_ending:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), LOOK_SECONDS)

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        is_serving = self._catalogue.is_ready and not self._ending.is_set()
        return HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING


async def _as_it_came(request: HealthCheckRequest, _: Call) -> HealthCheckRequest:
    return request
