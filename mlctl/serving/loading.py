"""From a version on the shelf to a model that takes requests, once its answers are right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlctl.errors import StepFailed
from mlctl.graphs.tokenizer_file import tokenizer_of
from mlctl.runtime.answers import Arrays
from mlctl.runtime.opening import open_graph
from mlctl.runtime.running import Running
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching.batcher import Batcher
from mlctl.serving.batching.layout import is_token
from mlctl.serving.batching.loading import load_batcher
from mlctl.serving.inference import Inference
from mlctl.serving.meaning import meaning_of
from mlctl.serving.natural.inputs import natural_for
from mlctl.serving.natural.padding import padding_token
from mlctl.serving.natural.values import Natural
from mlctl.serving.settings import Execution, ServerSettings
from mlctl.serving.shelf import Version
from mlctl.serving.signature import Signature
from mlctl.serving.telemetry.statistics import ModelStatistics


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version that takes requests, until it is retired."""

    signature: Signature
    natural: Natural
    statistics: ModelStatistics
    timeout_seconds: float
    queue: int
    batcher: Batcher

    def hold(self) -> Callable[[], None]:
        """Let it stay until what this gives is called."""
        return self.batcher.hold()

    def submit(self, inference: Inference) -> None:
        """Take the rows in. Raises Busy."""
        self.batcher.submit(inference)

    async def retire(self) -> None:
        """Finish what was accepted, and let memory go."""
        await self.batcher.drain()
        self.batcher.close()


def load_version(version: Version, settings: ServerSettings) -> LoadedModel:
    """A version that was loaded, warmed and measured, and has answered its golden requests.

    Raises DataError for a graph that is none, NoSuchDevice and MissingExtra for what this machine lacks, StepFailed
    where the golden answers do not come.
    """
    session = open_session(version.graph, settings.execution)
    if version.golden is not None:
        # A version without golden requests needs nothing of how they are compared.
        from mlctl.serving.repository.golden import coarseness

        coarse = coarseness(settings.execution.runtime, settings.execution.device)
        why = version.golden.check(session.all, coarseness=coarse)
        if why is not None:
            raise StepFailed(
                f"it does not answer as it did when it was published: {why}",
                where=version.graph,
                next="publish the model again from this machine's kind, or look at what differs with `mlctl doctor`",
            )
    meaning = meaning_of(_properties(session, version.graph), version.graph)
    signature = Signature(version.name, version.number, session.name, session.inputs, session.outputs, meaning)
    statistics = ModelStatistics()
    return LoadedModel(
        signature,
        natural_for(signature),
        statistics,
        settings.limits.timeout_seconds,
        settings.batching.queue,
        load_batcher(
            session,
            settings.execution,
            settings.batching,
            statistics,
            pad=padding_of(session, version.graph),
            given=sample_rows(version),
        ),
    )


def open_session(graph: Path, execution: Execution) -> Running:
    """The graph, for the number of threads that one computation has."""
    threads = execution.intra_op_threads or 1
    return open_graph(graph, runtime=execution.runtime, threads=threads, device=execution.device)


def padding_of(session: Running, graph: Path) -> int:
    """The token that fills up rows of a model of tokens; 0 for others, and where no tokenizer lies beside the graph.

    Raises DataError for a file that is no tokenizer's.
    """
    tokenizer = tokenizer_of(graph) if any(map(is_token, session.inputs)) else None
    return padding_token(tokenizer) if tokenizer is not None else 0


def sample_rows(version: Version) -> tuple[Arrays, ...]:
    """The rows of golden requests; none where there are no such requests."""
    return tuple(each.inputs for each in version.golden.requests) if version.golden else ()


def _properties(session: Running, graph: Path) -> Mapping[str, str]:
    if isinstance(session, OnnxSession):
        return session.metadata
    # OpenVINO does not tell them; its import takes so long that onnx's does not matter any more.
    from mlctl.graphs.inspection import read_graph
    from mlctl.graphs.properties import read_properties

    return read_properties(read_graph(graph))
