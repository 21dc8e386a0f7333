"""What a file needs not say: traces, paths and notes of the tool that made a graph."""

import re
from typing import Any

import onnx

from mlctl.graphs.inspection import graphs

SCOPES = "pkg.torch.onnx.name_scopes"
"""The one note that is kept: it names the module that a node came from."""

_QUOTED = re.compile(r"'([^']*)'")


def module_scopes(node: onnx.NodeProto) -> list[str]:
    """The modules around the call that the node was made for, outermost first, and the call's name, last.

    The note is a list such as `['', 'body', 'body.0', 'conv2d']`; one that is not gives what it quotes, or nothing.
    """
    texts = [entry.value for entry in node.metadata_props if entry.key == SCOPES]
    return _QUOTED.findall(texts[0]) if texts else []


def clean(model: onnx.ModelProto) -> None:
    """Take every doc string and every note but a node's module scopes out of `model`, in place."""
    model.doc_string = ""
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _clean_nodes(function.node)
        _clear(function.value_info)
    for graph in graphs(model.graph):
        _clear((graph,))
        _clean_nodes(graph.node)
        for parts in (graph.input, graph.output, graph.value_info, graph.initializer):
            _clear(parts)


def _clean_nodes(nodes: Any) -> None:
    for node in nodes:
        scopes = [entry.value for entry in node.metadata_props if entry.key == SCOPES]
        _clear((node,))
        for value in scopes[:1]:
            node.metadata_props.add(key=SCOPES, value=value)
        for attribute in node.attribute:
            attribute.doc_string = ""


def _clear(parts: Any) -> None:
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
