"""A node that integers ruin is found, given back to float and listed, and the others stay integers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rows_for_calibration import conv_graph, images, resources, saved

from mlctl.compression.quantization.calibration import Rows, calibrate
from mlctl.compression.quantization.fallback import keep_accurate
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.sensitivity import decibels, sensitivities
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.runtime.session import OnnxSession

ONE_SCALE = StaticOptions(Scheme("uint8", "int8", has_reduced_range=False, why=""), is_per_channel=False)


def with_outlier() -> onnx.ModelProto:
    """The second convolution has a channel of huge weights, which the head does not listen to."""
    model = conv_graph()
    stored = {each.name: each for each in model.graph.initializer}
    loud, head = (numpy_helper.to_array(stored[name]).copy() for name in ("w2", "w3"))
    loud[0] *= 2000
    head[0] = 0
    stored["w2"].CopyFrom(numpy_helper.from_array(loud, "w2"))
    stored["w3"].CopyFrom(numpy_helper.from_array(head, "w3"))
    # The loud channel is thrown away at once, so that only the weights' one scale does harm.
    quiet = np.ones((1, 16, 1, 1), np.float32)
    quiet[0, 0] = 0
    model.graph.initializer.append(numpy_helper.from_array(quiet, "quiet"))
    for node in model.graph.node:
        if node.name == "pool":
            node.input[0] = "calm"
    places = [node.name for node in model.graph.node]
    model.graph.node.insert(places.index("pool"), helper.make_node("Mul", ["second", "quiet"], ["calm"], "silence"))
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    return model


def test_the_node_with_an_outlier_channel_goes_back_to_float(tmp_path: Path) -> None:
    model, rows = with_outlier(), (images(64),)
    onnx.checker.check_model(model, full_check=True)
    ranges = calibrate(
        saved(model, tmp_path),
        tensors_to_calibrate(model, ONE_SCALE),
        Rows(rows, np.arange(64)),
        rule=RangeRule("minmax"),
        resources=resources(tmp_path),
        tell=lambda _: None,
    ).ranges
    quantizer = StaticQuantizer(model, ranges, ONE_SCALE)
    expected = OnnxSession(model.SerializeToString(), threads=1)(rows)

    def noise(written: onnx.ModelProto) -> float:
        return -decibels((expected,), (OnnxSession(written.SerializeToString(), threads=1)(rows),))

    kept = keep_accurate(
        quantizer, drop=noise, max_drop=-20, sensitivities=lambda: sensitivities(quantizer, model, rows, threads=1)
    )
    assert kept.is_met
    ((node, found),) = kept.kept
    assert node == "conv2"
    assert found < 5
    assert kept.evaluations == 2
    assert kept.drop == pytest.approx(noise(kept.model))
    assert {"conv1", "head"} <= set(quantizer.nodes)
