"""A torch network becomes an ONNX graph, the same bytes every time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import torch

from mlctl.errors import Unsupported
from mlctl.graphs.cleaning import clean
from mlctl.graphs.inspection import inspect
from mlctl.graphs.pass_list import passes_named
from mlctl.graphs.passes import PASS_TOLERANCE, apply_passes
from mlctl.graphs.properties import write_properties
from mlctl.graphs.quiet import no_chatter
from mlctl.graphs.recurrence import onnx_recurrence, translations
from mlctl.graphs.saving import LARGEST_FILE, save_graph
from mlctl.recipe.export import STANDARD_PASSES

BATCH = "batch"
"""The name of every input's and output's first dimension, which is always open."""

_NODE = re.compile(r"translating node %(\w+)")
_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
_PLACE = re.compile(r'File "([^"]+)", line (\d+)')

Example: TypeAlias = tuple[torch.Tensor, ...]
OpenDimensions: TypeAlias = Mapping[tuple[str, int], str]
"""Dimensions that any size fits: input or output and axis, and the dimension's name.

Dimensions of one name have one size in every call: `{("ids", 1): "sequence", ("mask", 1): "sequence"}`. Those of
inputs are asked for; the exporter finds those of outputs, and where one is named here, must find it open.
"""


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
    open_dimensions: OpenDimensions | None = None,
) -> Exported:
    """The graph of `convert`, made plain by the standard passes and written by `write_graph` into the folder `into`.

    Batch norm is folded into convolutions, and transposed weights are stored transposed under a new name; other
    weights keep the names that they have in `model`. The passes are judged on `example`. Takes and raises what
    `convert` and `write_graph` do.
    """
    proto = convert(
        model,
        example=example,
        input_names=input_names,
        output_name=output_name,
        opset=opset,
        open_dimensions=open_dimensions,
    )
    write_properties(proto, metadata)
    passed = apply_passes(
        proto,
        passes_named(STANDARD_PASSES),
        rows=tuple(each.numpy() for each in example),
        tolerance=PASS_TOLERANCE,
        decision="none",
        threads=1,
        scratch=into,
    )
    return write_graph(passed.model, into)


def convert(
    model: torch.nn.Module,
    *,
    example: Example,
    input_names: tuple[str, ...],
    output_name: str,
    opset: int,
    open_dimensions: OpenDimensions | None = None,
) -> onnx.ModelProto:
    """The graph of `model` as torch's exporter translates it, before any pass over it.

    `model` is in evaluation mode and gives one tensor [B, ...]; `example` holds its inputs [B, ...] with B of 2 or
    more, in the dtypes that the graph shall take. Weights keep the names that they have in `model`, except that
    recurrent layers hold them as ONNX orders them (`OnnxRecurrence`), and nodes note the modules they came from. The
    same model gives the same bytes, which carry no path of this machine. Raises Unsupported for an operator that ONNX
    lacks, for control flow that depends on data, and for a network that freezes the batch or another open dimension or
    reshapes the batch away.
    """
    return convert_open(
        model,
        example=example,
        input_names=input_names,
        output_names=(output_name,),
        opset=opset,
        dimensions={(name, 0): BATCH for name in (*input_names, output_name)} | dict(open_dimensions or {}),
    )


def convert_open(
    model: torch.nn.Module,
    *,
    example: Example,
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    opset: int,
    dimensions: OpenDimensions,
) -> onnx.ModelProto:
    """As `convert`, for a model of any number of outputs whose open dimensions, the batch among them, are all named."""
    from onnx_ir.passes import common

    program = onnx_program(model, example, input_names, output_names, opset, dimensions=dimensions)
    # The exporter may name a tensor as a weight is named.
    common.NameFixPass()(program.model)
    proto = program.model_proto
    clean(proto)
    _check_open(proto, dimensions)
    return proto


def write_graph(proto: onnx.ModelProto, into: Path, *, external_above: int = LARGEST_FILE) -> Exported:
    """Write `proto` into the folder `into` as `save_graph` does, and check the file."""
    path = save_graph(proto, into, external_above=external_above)
    onnx.checker.check_model(path, full_check=True)
    written = inspect(path)
    return Exported(path, written.opset, written.nodes, written.operators, written.parameters, written.bytes)


def onnx_program(
    model: torch.nn.Module,
    example: Example,
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    opset: int,
    *,
    dimensions: OpenDimensions | None = None,
) -> torch.onnx.ONNXProgram:
    """What torch's exporter makes of `model`: the graph, and the torch program that it was translated from.

    Takes and raises what `convert_open` does, with every input's batch open unless `dimensions` say otherwise;
    nothing is written.
    """
    wanted = {(name, 0): BATCH for name in input_names} if dimensions is None else dimensions
    with onnx_recurrence(model):
        shapes = _open_shapes(model, example, input_names, wanted)
        try:
            with no_chatter():
                program = torch.onnx.export(
                    model,
                    example,
                    dynamo=True,
                    dynamic_shapes=shapes,
                    input_names=list(input_names),
                    output_names=list(output_names),
                    opset_version=opset,
                    optimize=False,
                    verbose=False,
                    custom_translation_table=translations(),
                )
        except torch.onnx.OnnxExporterError as failure:
            raise _unsupported(failure, model, example, shapes) from failure
    assert program is not None  # None comes only when the exporter writes a file itself
    return program


def _open_shapes(
    model: torch.nn.Module, example: Example, input_names: Sequence[str], dimensions: OpenDimensions
) -> Any:
    sizes = {name: torch.export.Dim(name) for name in dimensions.values()}
    shapes = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for name, each in zip(input_names, example, strict=True):
        shapes[each] = {axis: sizes[size] for (owner, axis), size in dimensions.items() if owner == name}
    return shapes.dynamic_shapes(model, example)  # type: ignore[no-untyped-call]


def _check_open(proto: onnx.ModelProto, dimensions: OpenDimensions) -> None:
    ports = {port.name: port for port in (*proto.graph.input, *proto.graph.output)}
    for (port, axis), name in dimensions.items():
        sizes = ports[port].type.tensor_type.shape.dim
        found = sizes[axis].dim_param or str(sizes[axis].dim_value) if axis < len(sizes) else "none"
        if found != name:
            raise _frozen(port, axis, name, found)


def _frozen(port: str, axis: int, name: str, found: str) -> Unsupported:
    if name == BATCH and axis == 0:
        return Unsupported(
            f"the first dimension of {port!r} became {found} where every batch size should fit",
            next="let the network treat samples one by one: no reshape across the batch, no fixed batch size",
        )
    return Unsupported(
        f"dimension {axis} of {port!r} became {found} where every {name} should fit",
        next=f"let the network compute with the {name} of its input: no size that is written into it",
    )


def _unsupported(failure: BaseException, model: torch.nn.Module, example: Example, shapes: Any) -> Unsupported:
    causes = _causes(failure)
    innermost = causes[-1]
    said = " ".join(str(innermost).strip().split("\n", 1)[0].split())
    texts = "\n".join(str(cause) for cause in causes)
    operator, node, place = _OPERATOR.search(texts), _NODE.search(texts), _PLACE.search(texts)
    if operator is not None:
        owner = _owner(model, example, shapes, operator[1], node[1] if node else "")
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


def _owner(model: torch.nn.Module, example: Example, shapes: Any, operator: str, node: str) -> str:
    """The module that uses the operator, as far as a second trace tells."""
    with no_chatter():
        traced = torch.export.export(model, example, dynamic_shapes=shapes).graph
    wanted = operator.split(".", 1)[1]
    for each in traced.nodes:
        stack = list(each.meta.get("nn_module_stack", {}).values())
        if stack and (each.name == node or wanted in str(each.target)):
            name, kind = stack[-1]
            return f"{name or 'the network itself'} ({str(kind).rsplit('.', 1)[-1]})"
    return type(model).__name__
