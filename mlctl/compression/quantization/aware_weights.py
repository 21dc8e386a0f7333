"""The weights of a QDQ graph as parameters: floats that are rounded as the graph rounds them, and written back."""

from collections.abc import Mapping
from typing import Final

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from mlctl.compression.quantization.float_readers import STORED
from mlctl.compression.quantization.weight_grids import BiasGrid, StoredGrid, WeightGrid, floats, integers
from mlctl.graphs.learnt_weights import learnt_weights
from mlctl.graphs.torch_graph import GivenTensors
from mlctl.graphs.torch_operator import tensor_of

_BIASED: Final = frozenset({"Conv", "ConvTranspose", "Gemm"})
_BIAS: Final = 2


class AwareWeights(GivenTensors):
    """All that a QDQ graph learns: weights and biases behind their integers, and the weights of nodes in float.

    Scales of weights follow the weights at every step, as the quantizer would find them: a scale that stood still
    would cut off whatever grows, and one that is learnt would be another parameter for what 8 bits gain nothing from.
    """

    def __init__(self, quantized: onnx.ModelProto, original: onnx.ModelProto, has_reduced_range: bool = False) -> None:
        """`quantized` is the graph as the quantizer wrote it, `original` the float graph with its weights as they are
        used, from which the parameters start."""
        super().__init__()
        self._reduces = has_reduced_range
        self._stored = {each.name: each for each in quantized.graph.initializer}
        originals = {each.name: each for each in original.graph.initializer}
        learnt = learnt_weights(quantized)
        self._grids = _grids_by_output(quantized, self._stored, learnt)
        self._floats = tuple(name for name, each in self._stored.items() if name in learnt and _is_float(each))
        self.names = frozenset({*self._grids, *self._floats})
        self._places: dict[str, int] = {}
        self.weights = nn.ParameterList()
        for name in (*self._floats, *(grid.integers for grid in self._grids.values())):
            self._learn(name, originals)
        self._rounding = {torch.device("cpu"): self._weights_and_biases(quantized)}

    def forward(self) -> dict[str, Tensor]:
        rounded, _ = self._rounded()
        return {
            **{name: self._weight(name) for name in self._floats},
            **{output: rounded[grid.integers] for output, grid in self._grids.items()},
        }

    @torch.no_grad()
    def written(self, quantized: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of the graph with the weights as they are now, as the integers that `forward` rounds them to."""
        copy = onnx.ModelProto()
        copy.CopyFrom(quantized)
        new = self._new_tensors()
        for each in copy.graph.initializer:
            if each.name in new:
                each.CopyFrom(new[each.name])
        return copy

    def _new_tensors(self) -> dict[str, onnx.TensorProto]:
        rounded, scales = self._rounded()
        new = {name: floats(self._weight(name), self._stored[name]) for name in self._floats}
        for grid in self._grids.values():
            scale, zero = scales[grid.integers]
            new[grid.integers] = integers(rounded[grid.integers], scale, zero, self._stored[grid.integers], grid.axis)
            new[grid.scale] = floats(scale, self._stored[grid.scale])
            point = self._stored[grid.zero]
            dtype = helper.tensor_dtype_to_np_dtype(point.data_type)
            found = zero.cpu().numpy().astype(dtype).reshape(tuple(point.dims))
            new[grid.zero] = numpy_helper.from_array(found, grid.zero)
        return new

    def _rounded(self) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Every rounded tensor by the name of its integers, and their scale and zero point."""
        values: dict[str, Tensor] = {}
        scales: dict[str, tuple[Tensor, Tensor]] = {}
        weights, biases = self._grids_on(self.weights[0].device)
        for name, weight in weights.items():
            values[name], *both = weight.rounded(self._weight(name))
            scales[name] = both[0], both[1]
        for name, bias in biases.items():
            beside = scales[bias.weight][0] if bias.weight else None
            values[name], scale = bias.rounded(self._weight(name), beside)
            scales[name] = scale, torch.zeros_like(scale, dtype=torch.int32)
        return values, scales

    def _grids_on(self, device: torch.device) -> tuple[dict[str, WeightGrid], dict[str, BiasGrid]]:
        if device not in self._rounding:
            weights, biases = self._rounding[torch.device("cpu")]
            # Made once, perhaps while validating; a training may keep them for its gradients.
            with torch.inference_mode(False):
                self._rounding[device] = (
                    {name: each.to(device) for name, each in weights.items()},
                    {name: each.to(device) for name, each in biases.items()},
                )
        return self._rounding[device]

    def _weights_and_biases(self, quantized: onnx.ModelProto) -> tuple[dict[str, WeightGrid], dict[str, BiasGrid]]:
        weights, biases = {}, {}
        beside = _weights_beside(quantized, self._grids)
        for grid in self._grids.values():
            scale, zero = (tensor_of(self._stored[each]) for each in (grid.scale, grid.zero))
            if zero.dtype != torch.int32:
                shaped = scale.reshape(()) if grid.axis is None else scale
                weights[grid.integers] = WeightGrid.of(
                    grid, self._weight(grid.integers).detach(), shaped, zero, self._reduces
                )
                continue
            weight = beside.get(grid.integers)
            weight_scale = tensor_of(self._stored[weight.scale]) if weight else None
            biases[grid.integers] = BiasGrid.of(grid, scale, weight.integers if weight else None, weight_scale)
        return weights, biases

    def _weight(self, name: str) -> nn.Parameter:
        found: nn.Parameter = self.weights[self._places[name]]
        return found

    def _learn(self, name: str, originals: Mapping[str, onnx.TensorProto]) -> None:
        """A parameter for a stored tensor; one that is stored in both forms has but one."""
        original = name.removesuffix(STORED)
        if original not in self._places:
            self._places[original] = len(self.weights)
            self.weights.append(nn.Parameter(self._start(name, originals.get(original))))
        self._places[name] = self._places[original]

    def _start(self, name: str, before: onnx.TensorProto | None) -> Tensor:
        """The float weight, or what its integers say where the float graph has none of that name and shape."""
        stored = self._stored[name]
        if _is_float(stored):
            return tensor_of(stored)
        if before is not None and list(before.dims) == list(stored.dims) and _is_float(before):
            return tensor_of(before)
        grid = next(each for each in self._grids.values() if each.integers == name)
        values = tensor_of(stored).float()
        shape = [-1 if place == grid.axis else 1 for place in range(values.ndim)] if grid.axis is not None else []
        scale, zero = (tensor_of(self._stored[each]).float().reshape(shape) for each in (grid.scale, grid.zero))
        return (values - zero) * scale


def _is_float(stored: onnx.TensorProto) -> bool:
    return bool(stored.data_type == onnx.TensorProto.FLOAT)


def _grids_by_output(
    quantized: onnx.ModelProto, stored: dict[str, onnx.TensorProto], learnt: frozenset[str]
) -> dict[str, StoredGrid]:
    """By the name of a dequantized weight where it is stored."""
    found = {node.output[0]: StoredGrid.of(node, stored) for node in quantized.graph.node}
    return {name: grid for name, grid in found.items() if grid is not None and grid.integers in learnt}


def _weights_beside(quantized: onnx.ModelProto, grids: Mapping[str, StoredGrid]) -> dict[str, StoredGrid]:
    """By the integers of a bias, the weight that stands beside it in its node."""
    return {
        grids[node.input[_BIAS]].integers: grids[node.input[1]]
        for node in quantized.graph.node
        if node.op_type in _BIASED and len(node.input) > _BIAS and grids.keys() >= {node.input[1], node.input[_BIAS]}
    }
