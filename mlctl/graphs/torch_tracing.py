"""Every tensor of a torch network, under the names that the ONNX exporter gives them."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch.export.graph_signature import InputKind

from mlctl.graphs.export import Example, onnx_program
from mlctl.graphs.tracing import Framework, TracedTensor
from mlctl.runtime.answers import Arrays

OPSET = 20
"""The exporter decomposes a network for an operator set; from this one on the names of tensors stay the same."""


class TracedNetwork:
    """A network as the exporter sees it: the program that it translates, run call by call.

    The program is torch's own arithmetic, after decomposition into what ONNX has operators for; the exporter names
    most ONNX values after its calls, and notes the call in every node's scopes.
    """

    framework: Framework = "torch"

    def __init__(self, model: torch.nn.Module, example: Example) -> None:
        """Trace `model`, in evaluation mode on the CPU. Raises Unsupported where it cannot be traced."""
        names = tuple(f"input_{number}" for number in range(len(example)))
        program = onnx_program(model, example, names, ("answers",), OPSET).exported_program
        assert program is not None  # None comes only from a program that was read from a file
        self._module = program.graph_module
        self._inputs = tuple(_lifted(program))
        stored = {each.arg.name: str(each.target) for each in program.graph_signature.input_specs if each.target}
        self.tensors = tuple(_tensor(node, stored) for node in program.graph.nodes if node.op == "call_function")
        self.outputs = tuple(str(name) for name in program.graph_signature.user_outputs)

    def run(self, rows: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """As `Traced` says."""
        given = iter(rows)
        with torch.inference_mode():
            # Memory-mapped rows are read-only, which torch does not know.
            inputs = [torch.from_numpy(next(given).copy()) if each is None else each for each in self._inputs]
            recorder = _Recorder(self._module)
            recorder.run(*inputs)
        return recorder.seen

    def optimized(self, rows: Arrays) -> None:
        """Nothing: torch runs the network as it is."""


class _Recorder(torch.fx.Interpreter):
    """Runs a program and keeps the tensor that every call gave, by the call's name."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, npt.NDArray[Any]] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor) and not result.is_complex():
            # NumPy has no bfloat16.
            self.seen[n.name] = (result.float() if result.dtype == torch.bfloat16 else result).numpy()
        return result


def _lifted(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """What every placeholder of the program is given: a weight or constant, or None for the next of the rows."""
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            yield None
        elif spec.target in program.state_dict:
            yield program.state_dict[str(spec.target)]
        else:
            yield program.constants[str(spec.target)]


def _tensor(node: torch.fx.Node, stored: Mapping[str, str]) -> TracedTensor:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    maker = node.all_input_nodes[0] if node.target is operator.getitem else node
    return TracedTensor(
        name=node.name,
        node=node.name,
        operator=str(maker.target),
        module=str(stack[-1][0]) if stack else "",
        call=node.name,
        inputs=tuple(each.name for each in node.all_input_nodes),
        weights=tuple(stored[each.name] for each in maker.all_input_nodes if each.name in stored),
    )
