"""A torch network becomes an ONNX graph, the same bytes every time."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import torch

from mlctl.errors import Unsupported
from mlctl.graphs.cleaning import clean
from mlctl.graphs.inspection import inspect
from mlctl.graphs.metadata import write_properties

FILE_NAME = "model.onnx"
DATA_NAME = "model.onnx.data"
BATCH = "batch"
"""The name of the dimension that is left open."""

_LARGEST_FILE = 1_500_000_000
"""Bytes of weights that still go into one file; protobuf ends at 2^31, and the graph needs room too."""

_NODE = re.compile(r"translating node %(\w+)")
_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
_PLACE = re.compile(r'File "([^"]+)", line (\d+)')

Example: TypeAlias = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Exported:
    """The graph that was written: its file, and what is in it.

    `operators` counts nodes by operator, most frequent first; `bytes` includes external data.
    """

    path: Path
    opset: int
    nodes: int
    operators: tuple[tuple[str, int], ...]
    parameters: int
    bytes: int


def export(
    model: torch.nn.Module,
    *,
    example: Example,
    input_names: tuple[str, ...],
    output_name: str,
    opset: int,
    metadata: Mapping[str, str],
    into: Path,
) -> Exported:
    """Write `model.onnx` into the folder `into`, and `model.onnx.data` beside it for weights above 1.5 GB.

    `model` is in evaluation mode and gives one tensor [B, ...]; `example` holds its inputs [B, ...] with B of 2 or
    more, in the dtypes that the graph shall take. Batch norm is folded into convolutions, and transposed weights are
    stored transposed under a new name; other weights keep the names that they have in `model`. `metadata` becomes the
    file's `metadata_props`. The same model gives the same bytes, which carry no path of this machine. Raises
    Unsupported for an operator that ONNX lacks, for control flow that depends on data, and for a network that freezes
    the batch dimension or reshapes it away.
    """
    proto = _converted(model, example, input_names, output_name, opset)
    clean(proto)
    _check_batch(proto)
    write_properties(proto, metadata)
    path = into / FILE_NAME
    _save(proto, path)
    onnx.checker.check_model(path, full_check=True)
    written = inspect(path)
    return Exported(path, written.opset, written.nodes, written.operators, written.parameters, written.bytes)


def _converted(
    model: torch.nn.Module, example: Example, input_names: tuple[str, ...], output_name: str, opset: int
) -> onnx.ModelProto:
    shapes = _open_batch(model, example)
    try:
        with _no_chatter():
            program = torch.onnx.export(
                model,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(input_names),
                output_names=[output_name],
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as failure:
        raise _unsupported(failure, model, example) from failure
    assert program is not None  # None comes only when the exporter writes a file itself
    return program.model_proto


def _open_batch(model: torch.nn.Module, example: Example) -> Any:
    batch = torch.export.Dim(BATCH)
    shapes = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for each in example:
        shapes[each] = {0: batch}
    return shapes.dynamic_shapes(model, example)  # type: ignore[no-untyped-call]


def _save(proto: onnx.ModelProto, path: Path) -> None:
    if sum(len(each.raw_data) for each in proto.graph.initializer) > _LARGEST_FILE:
        onnx.save_model(proto, path, save_as_external_data=True, location=DATA_NAME)
    else:
        path.write_bytes(proto.SerializeToString(deterministic=True))


def _check_batch(proto: onnx.ModelProto) -> None:
    for port in (*proto.graph.input, *proto.graph.output):
        sizes = port.type.tensor_type.shape.dim
        first = sizes[0].dim_param or str(sizes[0].dim_value) if sizes else "none"
        if first != BATCH:
            raise Unsupported(
                f"the first dimension of {port.name!r} became {first} where every batch size should fit",
                next="let the network treat samples one by one: no reshape across the batch, no fixed batch size",
            )


@contextmanager
def _no_chatter() -> Iterator[None]:
    """Nothing that the exporter logs, prints or warns reaches a terminal; what it raises still comes out."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _unsupported(failure: BaseException, model: torch.nn.Module, example: Example) -> Unsupported:
    causes = _causes(failure)
    innermost = causes[-1]
    said = " ".join(str(innermost).strip().split("\n", 1)[0].split())
    texts = "\n".join(str(cause) for cause in causes)
    operator, node, place = _OPERATOR.search(texts), _NODE.search(texts), _PLACE.search(texts)
    if operator is not None:
        owner = _owner(model, example, operator[1], node[1] if node else "")
        return Unsupported(f"ONNX has no {operator[1]}, which {owner} uses; the exporter said: {said}")
    line = f" ({Path(place[1]).name}, line {place[2]})" if place else ""
    return Unsupported(
        f"{type(model).__name__} cannot be traced{line}; the exporter said: {type(innermost).__name__}: {said}",
        next="a network for ONNX has no Python branch or loop that depends on its input's values or on the batch size",
    )


def _causes(failure: BaseException) -> list[BaseException]:
    causes = [failure]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    return causes


def _owner(model: torch.nn.Module, example: Example, operator: str, node: str) -> str:
    """The module that uses the operator, as far as a second trace tells."""
    with _no_chatter():
        traced = torch.export.export(model, example, dynamic_shapes=_open_batch(model, example)).graph
    wanted = operator.split(".", 1)[1]
    for each in traced.nodes:
        stack = list(each.meta.get("nn_module_stack", {}).values())
        if stack and (each.name == node or wanted in str(each.target)):
            name, kind = stack[-1]
            return f"{name or 'the network itself'} ({str(kind).rsplit('.', 1)[-1]})"
    return type(model).__name__
