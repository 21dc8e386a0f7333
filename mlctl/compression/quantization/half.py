"""Weights and arithmetic in float16; the graph's inputs and outputs stay as they are.

Values are narrowed by onnxconverter-common, which also says what has no place in float16. Nodes are wired here: its
own wiring breaks graphs that cast to float32 themselves, as those that take raw images do, and cannot leave
neighbouring nodes in float32.
"""

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common import float16

from mlctl.compression.quantization.element_types import SAME_TYPE, element_types, formal, schema
from mlctl.compression.quantization.rewriting import CONTRIBUTED, Rewriting, constants
from mlctl.errors import StepFailed
from mlctl.graphs.inspection import operator_set

_LARGEST: Final = float(np.finfo(np.float16).max)

_BLOCKED: Final = frozenset(float16.DEFAULT_OP_BLOCK_LIST) | {"CastLike", "DequantizeLinear", "QuantizeLinear"}
"""Operators that stay in float32: without float16 kernels, or with sums that need the range."""


class HalfQuantizer:
    """A float32 graph whose nodes compute in float16 wherever ONNX knows the operator in it.

    A node with a constant beyond 65,504 stays in float32, and what it gives is clipped to that before it is narrowed,
    so that nothing becomes infinite unseen; constants closer to zero than 1e-7 become 1e-7.
    """

    def __init__(self, model: onnx.ModelProto, excluded: frozenset[str] = frozenset()) -> None:
        """`model` holds all its data and every node of it has a name; nodes in `excluded` stay float32.

        Raises StepFailed when no node is left that could be narrowed.
        """
        self._model = model
        self._constants = _Constants(model.graph)
        self._types = element_types(model)
        # ONNX Runtime 1.32 dies of a float16 Transpose before a MatMul, when it moves its casts to float32 around.
        multiplied = {name for node in model.graph.node if "MatMul" in node.op_type for name in node.input}
        self._turned = {
            node.name for node in model.graph.node if node.op_type == "Transpose" and node.output[0] in multiplied
        }
        self._wide = {node.name for node in model.graph.node if not self._fits(node)}
        staying = self._wide | excluded
        self._nodes = tuple(node.name for node in model.graph.node if node.name not in staying and self._can(node))
        if not self._nodes:
            raise StepFailed(
                "no node of this graph can compute in float16: none has float32 numbers and an operator that knows "
                "float16, or `exclude` names them all",
                next="exclude less, or take the graph as it is",
            )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that compute in float16, in the graph's order."""
        return self._nodes

    @property
    def out_of_range(self) -> tuple[str, ...]:
        """The nodes that stay in float32 because of a constant that float16 cannot hold, in the graph's order."""
        return tuple(node.name for node in self._model.graph.node if node.name in self._wide)

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """A new graph with all of `nodes` in float16, but for those in `kept`. float32 tensors keep their names."""
        narrow = set(self._nodes) - kept
        beyond = {name for node in self._model.graph.node if node.name in self._wide for name in node.output}
        wiring = _Wiring(Rewriting(self._model), self._types, self._constants, beyond)
        for node in self._model.graph.node:
            if node.name in narrow:
                wiring.narrow(node)
        return wiring.rewriting.finished()

    def _can(self, node: onnx.NodeProto) -> bool:
        if (
            node.op_type in _BLOCKED
            or node.name in self._turned
            or any(each.HasField("g") or each.graphs for each in node.attribute)
        ):
            return False
        places = [place for place, name in enumerate(node.input) if self._is_float(name)]
        if node.op_type == "Cast":
            return self._types.get(node.output[0]) == TensorProto.FLOAT or bool(places)
        if node.domain == CONTRIBUTED:
            return node.op_type in SAME_TYPE and bool(places)
        described = schema(node, operator_set(self._model))
        if described is None or not places or any(name and name not in self._types for name in node.output):
            return False
        results = [place for place, name in enumerate(node.output) if self._is_float(name)]
        parameters = [formal(described.inputs, place) for place in places]
        parameters += [formal(described.outputs, place) for place in results]
        return all("tensor(float16)" in each.types for each in parameters)

    def _is_float(self, name: str) -> bool:
        return self._types.get(name) == TensorProto.FLOAT

    def _fits(self, node: onnx.NodeProto) -> bool:
        held = [self._constants.wide(name) for name in node.input if self._is_constant(name)]
        return all(np.abs(each[np.isfinite(each)]).max(initial=0) <= _LARGEST for each in held)

    def _is_constant(self, name: str) -> bool:
        return name in self._constants and self._is_float(name)


class _Constants:
    """The graph's constants as they are, and in float16; narrowing is slow enough to be remembered."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._held = constants(graph)
        self._narrow: dict[str, npt.NDArray[np.float16]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def wide(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self._held[name])

    def narrow(self, name: str) -> npt.NDArray[np.float16]:
        if name not in self._narrow:
            values = self.wide(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of every value that it moves to 1e-7
                narrow = float16.convert_np_to_float16(np.atleast_1d(values), max_finite_val=_LARGEST)
            self._narrow[name] = np.asarray(narrow, np.float16).reshape(values.shape)
        return self._narrow[name]


class _Wiring:
    """Writes each node, and the casts between one precision and the other, each once for every tensor."""

    def __init__(
        self,
        rewriting: Rewriting,
        types: dict[str, int],
        held: _Constants,
        beyond: set[str],
    ) -> None:
        self.rewriting = rewriting
        self._types, self._constants, self._beyond = types, held, beyond
        self._narrow: dict[str, str] = {}

    def narrow(self, node: onnx.NodeProto) -> None:
        casts: list[onnx.NodeProto] = []
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for place, name in enumerate(node.input):
            if self._types.get(name) == TensorProto.FLOAT:
                new.input[place] = self._half(name, casts)
        back = []
        for place, name in enumerate(node.output):
            if self._types.get(name) == TensorProto.FLOAT:
                half = self._narrow[name] = self.rewriting.name(f"{name}_half")
                new.output[place] = half
                back.append(_cast(half, name, TensorProto.FLOAT))
        for attribute in new.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        # What nobody reads in float32 goes again when the graph is finished.
        self.rewriting.replace(node.name, [*casts, new, *back])

    def _half(self, name: str, casts: list[onnx.NodeProto]) -> str:
        if name in self._narrow:
            return self._narrow[name]
        if name in self._constants:
            half = self.rewriting.store(f"{name}_half", self._constants.narrow(name))
        else:
            half, source = self.rewriting.name(f"{name}_half"), name
            if name in self._beyond:
                source = self.rewriting.name(f"{name}_clipped")
                casts.append(self._clip(name, source))
            casts.append(_cast(source, half, TensorProto.FLOAT16))
        self._narrow[name] = half
        return half

    def _clip(self, name: str, into: str) -> onnx.NodeProto:
        ends = [self.rewriting.store(f"{into}_{end}", np.array(end, np.float32)) for end in (-_LARGEST, _LARGEST)]
        return helper.make_node("Clip", [name, *ends], [into], f"{into}_clip")


def _cast(source: str, into: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [into], f"{into}_cast", to=to)
