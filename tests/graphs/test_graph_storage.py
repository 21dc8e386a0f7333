"""What is stored and what runs on integers, on graphs that ONNX Runtime's own tools have quantized."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from nets_for_graphs import export_conv_net
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from mlctl.graphs.description import GraphDescription, describe
from mlctl.graphs.inspection import read_graph
from mlctl.graphs.storage import StoredType, WeightBits, integer_share, stored_types, weight_bits

WEIGHTS = 64 * 32


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """Two batches of seeded images."""

    def __init__(self) -> None:
        dice = np.random.default_rng(1)
        self._left = [dice.integers(0, 17, (4, 1, 8, 8), np.uint8) for _ in range(2)]

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        return {"image": self._left.pop()} if self._left else None


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """x float [b, 5, 64] times a float weight [64, 32], then with an open one [b, 32, 5]."""
    weight = numpy_helper.from_array(np.random.default_rng(2).standard_normal((64, 32)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "weighted"),
        helper.make_node("MatMul", ["h", "z"], ["y"], "free"),
    ]
    value = helper.make_tensor_value_info
    ports = [value("x", TensorProto.FLOAT, ["b", 5, 64]), value("z", TensorProto.FLOAT, ["b", 32, 5])]
    graph = helper.make_graph(nodes, "g", ports, [value("y", TensorProto.FLOAT, ["b", 5, 5])], [weight])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8), path)
    return path


def on_integers(found: GraphDescription) -> set[str]:
    return {node.operator for node in found.nodes if node.is_integer}


def test_a_float_graph_has_no_integers(product: Path) -> None:
    found = describe(product)
    assert found.weight_bits == (WeightBits(32, False, WEIGHTS),)
    assert (found.integer_weight_share, found.integer_flop_share) == (0.0, 0.0)
    assert found.flops == 2 * (5 * 64 * 32 + 5 * 32 * 5)
    assert found.stored == (StoredType("float32", 1, WEIGHTS, 4 * WEIGHTS),)


def test_dynamic_quantization_is_seen(product: Path, tmp_path: Path) -> None:
    float_flops = describe(product).flops
    quantize_dynamic(product, tmp_path / "dynamic.onnx", extra_options={"MatMulConstBOnly": True})
    found = describe(tmp_path / "dynamic.onnx")
    assert WeightBits(8, True, WEIGHTS) in found.weight_bits
    assert found.integer_weight_share > 0.99
    assert (found.flops, found.uncounted) == (float_flops, ())
    assert found.integer_flop_share == pytest.approx(64 / 69)
    assert on_integers(found) == {"MatMulInteger"}


def test_static_quantization_is_seen_through_its_qdq_nodes(tmp_path: Path) -> None:
    exported = export_conv_net(tmp_path)
    before = describe(exported.path)
    quantize_static(exported.path, tmp_path / "static.onnx", Batches(), quant_format=QuantFormat.QDQ, per_channel=True)
    found = describe(tmp_path / "static.onnx")
    assert found.flops == before.flops
    assert found.integer_flop_share == 1.0
    assert on_integers(found) == {"Conv", "Gemm"}
    stored = {(each.bits, each.is_integer): each.weights for each in found.weight_bits}
    assert stored[8, True] == 8 * 9 + 12 * 8 * 9 + 5 * 12
    # Biases are stored as int32; what stays in floats are the scaling's two constants.
    assert stored[32, True] == 8 + 12 + 5
    assert stored[32, False] == before.parameters - stored[8, True] - stored[32, True]


@pytest.mark.parametrize(("bits", "level", "share"), [(4, 0, 0.0), (4, 4, 64 / 69), (8, 4, 64 / 69)])
def test_packed_weights_count_one_by_one(product: Path, bits: int, level: int, share: float) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(product), bits=bits, block_size=32, is_symmetric=False, accuracy_level=level
    )
    quantizer.process()
    path = product.with_name("packed.onnx")
    quantizer.model.save_model_to_file(str(path))
    found = describe(path)
    assert found.weight_bits == (WeightBits(bits, True, WEIGHTS),)
    assert (found.integer_weight_share, found.uncounted) == (1.0, ())
    assert found.flops == describe(product).flops
    assert found.integer_flop_share == pytest.approx(share)


def test_small_types_share_their_bytes() -> None:
    tensors = [
        helper.make_tensor("four", TensorProto.INT4, [3], [1, 2, 3]),
        helper.make_tensor("half", TensorProto.FLOAT16, [4], [1.0] * 4),
        TensorProto(name="words", data_type=TensorProto.STRING, dims=[2], string_data=[b"one", b"three"]),
    ]
    model = helper.make_model(helper.make_graph([], "g", [], [], tensors))
    assert stored_types(model) == (
        StoredType("float16", 1, 4, 8), StoredType("string", 1, 2, 8), StoredType("int4", 1, 3, 2),
    )  # fmt: skip
    assert weight_bits(model) == (WeightBits(16, False, 4),)
    assert integer_share(()) == 0.0


def test_a_tensor_of_a_type_that_is_not_known_stops_nothing(product: Path) -> None:
    model = read_graph(product)
    model.graph.initializer.add(name="odd", data_type=94, dims=[7])
    assert StoredType("unknown", 1, 7, 0) in stored_types(model)
