"""Which nodes the recipe keeps in float."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import onnx

from mlctl.errors import StepFailed

SHOWN = 8


def excluded_nodes(model: onnx.ModelProto, names: Sequence[str], types: Sequence[str]) -> frozenset[str]:
    """Names of the nodes of `model` that match one of the globs `names` or are of one of the operator `types`.

    Raises StepFailed for one that fits no node, which would be a silent mistake.
    """
    nodes = {node.name: node.op_type for node in model.graph.node}
    _require(names, [name for name in names if any(_fits(node, name) for node in nodes)], nodes, "node")
    _require(types, [name for name in types if name in nodes.values()], sorted(set(nodes.values())), "operator")
    return frozenset(node for node, kind in nodes.items() if kind in types or any(_fits(node, name) for name in names))


def _fits(node: str, name: str) -> bool:
    return node == name or fnmatchcase(node, name)  # a name may hold brackets that a glob would read


def _require(wanted: Sequence[str], found: Sequence[str], there: Iterable[str], what: str) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        names = list(there)
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise StepFailed(
            f"`exclude` names {', '.join(missing)}, and the graph has no such {what}; it has {shown}",
            next="`mlctl inspect --nodes` lists every node with its operator",
        )
