"""What stays in float is named by globs and operator types; a name that fits nothing is a mistake."""

import onnx
import pytest
from onnx import helper

from mlctl.compression.quantization.exclusion import excluded_nodes
from mlctl.errors import StepFailed


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    kinds = {"body.0/conv": "Conv", "body.1/conv": "Conv", "body.1/relu": "Relu", "head[0]/gemm": "Gemm"}
    nodes = [helper.make_node(kind, ["x"], ["x"], name) for name, kind in kinds.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [], []))


@pytest.mark.parametrize(
    ("names", "types", "expected"),
    [
        ([], [], set()),
        (["body.0/conv"], [], {"body.0/conv"}),
        (["body.*"], [], {"body.0/conv", "body.1/conv", "body.1/relu"}),
        (["*/conv", "head*"], [], {"body.0/conv", "body.1/conv", "head[0]/gemm"}),
        ([], ["Conv"], {"body.0/conv", "body.1/conv"}),
        (["body.1/*"], ["Gemm"], {"body.1/conv", "body.1/relu", "head[0]/gemm"}),
        (["body.?/conv"], ["Conv"], {"body.0/conv", "body.1/conv"}),
        (["head[[]0]/gemm"], [], {"head[0]/gemm"}),
        (["head[0]/gemm"], [], {"head[0]/gemm"}),
        (["*"], [], {"body.0/conv", "body.1/conv", "body.1/relu", "head[0]/gemm"}),
    ],
)
def test_nodes_are_found_by_glob_and_by_type(
    model: onnx.ModelProto, names: list[str], types: list[str], expected: set[str]
) -> None:
    assert excluded_nodes(model, names, types) == expected


@pytest.mark.parametrize(
    ("names", "types", "message"),
    [
        (["body.7/conv"], [], r"names body.7/conv, and the graph has no such node; it has body.0/conv"),
        (["body.*", "tail", "a*"], [], r"names tail, a\*, and the graph has no such node"),
        (["BODY.0/conv"], [], r"no such node"),
        ([], ["conv"], r"names conv, and the graph has no such operator; it has Conv, Gemm, Relu"),
        ([], ["Con*"], r"no such operator"),
    ],
)
def test_what_fits_nothing_is_refused(model: onnx.ModelProto, names: list[str], types: list[str], message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        excluded_nodes(model, names, types)
    assert caught.value.exit_code == 4
    assert "mlctl inspect --nodes" in str(caught.value.next)
