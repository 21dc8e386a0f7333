"""Weights as 4- or 8-bit integers in blocks, for ONNX Runtime's MatMulNBits; activations stay float outside of it."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import onnx
from onnx import helper

from mlctl.compression.quantization.blocks import BlockForm, Blocks, half_quadratic, packed, round_to_nearest
from mlctl.compression.quantization.gptq import compensated, second_moments
from mlctl.compression.quantization.linear_layers import LinearLayer, linear_layers, matrix
from mlctl.compression.quantization.rewriting import CONTRIBUTED, Rewriting, constants
from mlctl.errors import StepFailed, UsageError
from mlctl.runtime.answers import Arrays

Algorithm: TypeAlias = Literal["round-to-nearest", "hqq", "gptq"]

_INTEGER_PRODUCTS: Final = 4
"""MatMulNBits' `accuracy_level` whose kernels multiply integers: it rounds activations to 8 bits, block by block."""


class WeightOnlyQuantizer:
    """Linear layers, MatMul or Gemm, whose weights are stored in few bits. Biases and everything else stay float."""

    def __init__(
        self,
        model: onnx.ModelProto,
        form: BlockForm,
        excluded: frozenset[str] = frozenset(),
        *,
        algorithm: Algorithm = "round-to-nearest",
        rows: Sequence[Arrays] = (),
        threads: int = 1,
    ) -> None:
        """`model` holds all its data and every node of it has a name; nodes in `excluded` stay float.

        Only `gptq` reads `rows`: batches of every input [B, ...], in the order of the graph's inputs, answered with
        `threads` threads when the first graph is asked for. Raises UsageError for `hqq` with 8 bits or symmetric
        blocks and for `gptq` without rows, StepFailed when no linear layer is left.
        """
        if algorithm == "hqq" and (form.is_symmetric or form.bits != 4):
            raise UsageError(
                "hqq moves the zero point of every block between two codes, which ONNX Runtime knows for 4 bits alone",
                next="set `bits: 4` and `symmetric: false`; round-to-nearest and gptq can do every combination",
            )
        if algorithm == "gptq" and not rows:
            raise UsageError("gptq needs rows to see the activations of", next="take another `algorithm`")
        self._model, self._form, self._algorithm = model, form, algorithm
        self._rows, self._threads = rows, threads
        self._constants = constants(model.graph)
        self._layers = tuple(each for each in linear_layers(model) if each.node not in excluded)
        self._blocks: dict[tuple[str, bool, str], Blocks] = {}
        if not self._layers:
            raise StepFailed(
                "no node of this graph can have its weights alone quantized: MatMul and Gemm can, where their second "
                "factor is a constant matrix and `exclude` does not name them",
                next="choose `method: static` for convolutions, or exclude less",
            )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes whose weights become integers, in the graph's order."""
        return tuple(each.node for each in self._layers)

    @property
    def known_slow(self) -> str | None:
        """Why ONNX Runtime's processor kernels are known to be slow on such weights; None where they are not."""
        if self._algorithm == "hqq":
            # 1024 x 1024, batch 1, one thread with VNNI: 2.2 ms against 0.034 with whole zero points, 0.28 in float.
            return "hqq's zero points lie between codes: ONNX Runtime unpacks such weights to float for every call"
        return None

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """A new graph with all of `nodes` as MatMulNBits, but for those in `kept`. Tensors keep their names.

        The first call rounds the weights, which takes seconds to minutes with `gptq`; they are remembered.
        """
        rewriting, stored = Rewriting(self._model), dict[tuple[str, bool, str], list[str]]()
        for layer in self._layers:
            if layer.node not in kept:
                key = self._key(layer)
                if key not in stored:
                    stored[key] = self._stored(rewriting, layer)
                rewriting.replace(layer.node, self._written(rewriting, layer, stored[key]))
        return rewriting.finished()

    def _written(self, rewriting: Rewriting, layer: LinearLayer, stored: list[str]) -> list[onnx.NodeProto]:
        rows, columns = self._shape(layer)
        product = rewriting.name(f"{layer.node}_product") if layer.bias else layer.output
        node = helper.make_node(
            "MatMulNBits",
            [layer.input, *stored],
            [product],
            layer.node,
            domain=CONTRIBUTED,
            K=rows,
            N=columns,
            bits=self._form.bits,
            block_size=self._form.block_size,
            accuracy_level=_INTEGER_PRODUCTS,
        )
        if not layer.bias:
            return [node]
        return [node, helper.make_node("Add", [product, layer.bias], [layer.output], f"{layer.node}_bias")]

    def _stored(self, rewriting: Rewriting, layer: LinearLayer) -> list[str]:
        found = self._rounded(layer)
        codes, zero_points = packed(found, self._form)
        names = [
            rewriting.store(f"{layer.weight}_codes", codes),
            rewriting.store(f"{layer.weight}_scales", found.scales),
        ]
        return names if zero_points is None else [*names, rewriting.store(f"{layer.weight}_zero_points", zero_points)]

    def _rounded(self, layer: LinearLayer) -> Blocks:
        key = self._key(layer)
        if key not in self._blocks and self._algorithm == "gptq":
            self._compensate()
        elif key not in self._blocks:
            rounding = half_quadratic if self._algorithm == "hqq" else round_to_nearest
            self._blocks[key] = rounding(matrix(layer, self._constants), self._form)
        return self._blocks[key]

    def _compensate(self) -> None:
        widths = {each.input: self._shape(each)[0] for each in self._layers}
        for moments in second_moments(self._model, widths, self._rows, threads=self._threads):
            for layer in self._layers:
                if layer.input in moments and self._key(layer) not in self._blocks:
                    found = compensated(matrix(layer, self._constants), moments[layer.input], self._form)
                    self._blocks[self._key(layer)] = found

    def _shape(self, layer: LinearLayer) -> tuple[int, int]:
        dims = self._constants[layer.weight].dims
        return (dims[1], dims[0]) if layer.is_transposed else (dims[0], dims[1])

    def _key(self, layer: LinearLayer) -> tuple[str, bool, str]:
        """What decides the integers: the weight, and for gptq the activations that meet it."""
        return layer.weight, layer.is_transposed, layer.input if self._algorithm == "gptq" else ""
