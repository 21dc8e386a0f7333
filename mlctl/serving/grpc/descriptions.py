"""What the Open Inference Protocol tells of the server and its models, in its messages."""

from mlctl import __version__
from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc.calls import Call
from mlctl.serving.grpc.open_inference_messages import (
    DataType,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from mlctl.serving.protocols.open_inference_descriptions import EXTENSIONS, SERVER_NAME, configuration, metadata
from mlctl.serving.protocols.open_inference_statistics import statistics_of
from mlctl.serving.refusals import NotReady, Unknown


class Descriptions:
    """The calls that change nothing and compute nothing."""

    def __init__(self, catalogue: Catalogue, max_batch_size: int) -> None:
        self._catalogue = catalogue
        self._max_batch_size = max_batch_size

    async def server_live(self, _: ServerLiveRequest, __: Call) -> ServerLiveResponse:
        """That it answers."""
        return ServerLiveResponse(live=True)

    async def server_ready(self, _: ServerReadyRequest, __: Call) -> ServerReadyResponse:
        """Whether the server is ready for requests."""
        return ServerReadyResponse(ready=self._catalogue.is_ready)

    async def server_metadata(self, _: ServerMetadataRequest, __: Call) -> ServerMetadataResponse:
        """Its name, version and extensions."""
        return ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=EXTENSIONS)

    async def model_ready(self, request: ModelReadyRequest, _: Call) -> ModelReadyResponse:
        """Whether a model takes requests; one that there is not does not."""
        try:
            self._catalogue.find(request.name, request.version or None)
        except (Unknown, NotReady):
            return ModelReadyResponse(ready=False)
        return ModelReadyResponse(ready=True)

    async def model_metadata(self, request: ModelMetadataRequest, call: Call) -> ModelMetadataResponse:
        """Versions, inputs and outputs. Raises Unknown, NotReady."""
        version = request.version or None
        live = self._catalogue.find(request.name, version)
        call.version = live.signature.version
        return ModelMetadataResponse(**metadata(self._catalogue, live, version))

    async def model_config(self, request: ModelConfigRequest, call: Call) -> ModelConfigResponse:
        """As Triton would describe it. Raises Unknown, NotReady."""
        signature = self._catalogue.find(request.name, request.version or None).signature
        call.version = signature.version
        config = configuration(signature, self._max_batch_size)
        for each in (*config["input"], *config["output"]):
            # What the protocol has no name for, as complex numbers, has none in Triton's list either.
            if each["data_type"] not in DataType.DESCRIPTOR.values_by_name:
                each["data_type"] = DataType.TYPE_INVALID
        return ModelConfigResponse(config=config)

    async def model_statistics(self, request: ModelStatisticsRequest, _: Call) -> ModelStatisticsResponse:
        """What became of requests. Raises Unknown, NotReady."""
        found = statistics_of(self._catalogue, request.name, request.version)
        return ModelStatisticsResponse(model_stats=[each.as_json() for each in found])
