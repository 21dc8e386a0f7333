"""The graph passes that there are, by name.

Their libraries take seconds to import, so that each is imported when its pass runs.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import onnx

from mlctl.graphs.passes import GraphPass

if TYPE_CHECKING:
    from onnxscript import ir

_FAILURES = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError,
    onnx.shape_inference.InferenceError,
)  # fmt: skip
"""What onnxscript, onnx_ir and onnxruntime.transformers raise on a graph that they did not foresee.

onnx_ir's own PassError and SerdeError are RuntimeErrors; the others come straight out of their code.
"""

_ROUNDS = 2
"""Fusion leaves constants to fold, which lets more be fused; onnxscript's own optimizer stops after as many."""


_CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators, all of version 1."""


def passes_named(names: Sequence[str]) -> tuple[GraphPass, ...]:
    """The passes of these names, in this order."""
    return tuple(PASSES[name] for name in names)


def _fold_constants(graph: "ir.Model") -> None:
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.fold_constants(graph, onnx_shape_inference=True)
    common.RemoveUnusedNodesPass()(graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)


def _fuse(graph: "ir.Model") -> None:
    from onnxscript import rewriter

    for _ in range(_ROUNDS):
        rewriter.rewrite(graph)
        _fold_constants(graph)


def _remove_dead_code(graph: "ir.Model") -> None:
    from onnx_ir.passes import common

    common.IdentityEliminationPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    common.RemoveUnusedFunctionsPass()(graph)  # type: ignore[no-untyped-call]
    common.RemoveUnusedOpsetsPass()(graph)
    common.LiftSubgraphInitializersToMainGraphPass()(graph)
    common.DeduplicateInitializersPass()(graph)
    common.CommonSubexpressionEliminationPass()(graph)
    common.OutputFixPass()(graph)


def _infer_shapes(graph: "ir.Model") -> None:
    from onnx_ir.passes import common

    common.ShapeInferencePass()(graph)


def _on_ir(change: Callable[["ir.Model"], None]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """The pass over onnx_ir's representation as one over the file's, every name unique afterwards."""

    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        from onnx_ir.passes import common
        from onnxscript import ir

        graph = ir.from_proto(model)
        change(graph)
        common.NameFixPass()(graph)
        return ir.to_proto(graph)

    return apply


def _fuse_transformer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attention, layer normalization and GELU as operators of `com.microsoft`, in memory.

    `optimize_model` would make a folder among the system's temporary ones; what it calls does not.
    """
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    fused: onnx.ModelProto = optimize_by_fusion(model, "bert").model
    is_named = any(each.domain == _CONTRIB for each in fused.opset_import)
    if not is_named and any(node.domain == _CONTRIB for node in fused.graph.node):
        fused.opset_import.append(onnx.helper.make_opsetid(_CONTRIB, 1))
    return fused


PASSES = {
    each.name: each
    for each in (
        GraphPass("constant-folding", _on_ir(_fold_constants), _FAILURES),
        GraphPass("fusion", _on_ir(_fuse), _FAILURES),
        GraphPass("transformer-fusion", _fuse_transformer, _FAILURES),
        GraphPass("dead-code", _on_ir(_remove_dead_code), _FAILURES),
        GraphPass("shape-inference", _on_ir(_infer_shapes), _FAILURES),
    )
}
"""Every pass by its name, in the order that makes sense."""
