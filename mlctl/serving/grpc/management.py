"""The calls that look at the repository, and those that change what is served."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc.calls import Call
from mlctl.serving.grpc.open_inference_messages import (
    ModelRepositoryParameter,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
)
from mlctl.serving.protocols.open_inference_repository import STATES, index_of
from mlctl.serving.protocols.open_inference_tensors import quoted
from mlctl.serving.refusals import Malformed, Unknown


class Management:
    """The model repository extension. There is one repository, and it has no name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._changes: set[asyncio.Task[None]] = set()
        """The event loop alone would let a task go before it is done."""

    async def index(self, request: RepositoryIndexRequest, _: Call) -> RepositoryIndexResponse:
        """Every version that the server knows of. Raises Unknown."""
        _require_no_name(request.repository_name)
        return RepositoryIndexResponse(
            models=[
                {"name": each.name, "version": str(each.version), "state": STATES[each.state], "reason": each.reason}
                for each in index_of(self._catalogue, ready_alone=request.ready)
            ]
        )

    async def load(self, request: RepositoryModelLoadRequest, call: Call) -> RepositoryModelLoadResponse:
        """Let a version take requests. Raises Malformed, Unknown, NotReady."""
        _require_no_name(request.repository_name)
        version = _version(request.parameters)
        for name in request.parameters:
            if name == "config" or name.startswith("file:"):
                raise Malformed(f"the parameter {quoted(name)} cannot be taken: a version is what the repository holds")
        await self._change(self._catalogue.load(request.model_name, version))
        number = _number(version)
        call.version = self._catalogue.find(request.model_name).signature.version if number is None else number
        return RepositoryModelLoadResponse()

    async def unload(self, request: RepositoryModelUnloadRequest, call: Call) -> RepositoryModelUnloadResponse:
        """Let a version, or all, take no more requests. Raises Malformed, Unknown."""
        _require_no_name(request.repository_name)
        version = _version(request.parameters)
        await self._change(self._catalogue.unload(request.model_name, version))
        call.version = _number(version)
        return RepositoryModelUnloadResponse()

    async def _change(self, change: Coroutine[Any, Any, None]) -> None:
        """Finish a change also where its caller goes before."""
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)


def _require_no_name(repository: str) -> None:
    if repository:
        raise Unknown(f"there is no repository {quoted(repository)}: this server has one, without a name")


def _version(parameters: Mapping[str, ModelRepositoryParameter]) -> str | None:
    if "version" not in parameters:
        return None
    given = parameters["version"]
    if given.HasField("string_param"):
        return given.string_param or None
    if given.HasField("int64_param"):
        return str(given.int64_param)
    raise Malformed("the parameter version must be a text or a whole number")


def _number(version: str | None) -> int | None:
    return int(version) if version is not None and version.isascii() and version.isdecimal() else None
