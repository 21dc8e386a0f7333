"""What a graph's metadata, and the files beside it, say of its meaning; without loading onnx."""

from collections.abc import Mapping
from pathlib import Path

from mlctl.data.numbers import FLOAT32_LIMIT
from mlctl.digests import Json
from mlctl.errors import DataError
from mlctl.graphs.metadata import PREFIX, GraphMetadata
from mlctl.graphs.tokenizer_file import tokenizer_of
from mlctl.serving.signature import InputMeaning, Meaning


def meaning_of(properties: Mapping[str, str], graph: Path) -> Meaning:
    """What the `metadata_props` of the file `graph` say, with the tokenizer that lies beside it.

    A graph of another tool, which has no `mlctl.task`, says nothing but that. Of one that an older mlctl made, nobody
    knows what its inputs are called in a table. Raises DataError for metadata of ours that are damaged.
    """
    tokenizer = tokenizer_of(graph)
    if f"{PREFIX}task" not in properties:
        return Meaning(tokenizer=tokenizer)
    told = GraphMetadata.from_properties(properties, where=graph)
    return Meaning(
        task=told.task,
        labels=told.labels,
        inputs=_inputs(told, graph),
        tokenizer=tokenizer,
        fingerprint=told.fingerprint,
    )


def _inputs(told: GraphMetadata, graph: Path) -> tuple[InputMeaning, ...]:
    scales = _scales(told, graph)
    if not told.inputs:
        return tuple(InputMeaning("", scale=scale) for scale in scales)
    if len(scales) != len(told.inputs):
        raise _damaged(graph, f"tells of {len(told.inputs)} inputs, and of the preprocessing of {len(scales)}")
    return tuple(
        InputMeaning(each.name, each.columns, scale, each.shape)
        for each, scale in zip(told.inputs, scales, strict=True)
    )


def _scales(told: GraphMetadata, graph: Path) -> list[float]:
    """By which each input is divided in the graph, in the graph's order."""
    if not isinstance(told.preprocessing, list):
        raise _damaged(graph, "holds a preprocessing that is no list")
    return [_scale(each, graph) for each in told.preprocessing]


def _scale(told: Json, graph: Path) -> float:
    match told:
        case {"scale": float() | int() as scale} if not isinstance(scale, bool) and 0 < scale < FLOAT32_LIMIT:
            return float(scale)
    raise _damaged(graph, "holds a preprocessing without a scale above 0")


def _damaged(graph: Path, what: str) -> DataError:
    return DataError(f"the graph's metadata {what}", where=graph, next="take a graph that mlctl made, or make it again")
