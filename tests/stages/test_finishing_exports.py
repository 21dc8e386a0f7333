"""What every exported graph goes through, wherever it came from."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.engine.figures import Figure
from mlctl.engine.stage import Work
from mlctl.events import Event, Warned
from mlctl.graphs import pass_list
from mlctl.graphs.passes import GraphPass
from mlctl.recipe.export import ExportSettings
from mlctl.runtime.answers import Arrays
from mlctl.stages.export_figures import export_promises
from mlctl.stages.exporting import finished_export

ROWS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def product() -> onnx.ModelProto:
    """x [B, 4] times `WEIGHT`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "product",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def in_numpy(rows: Arrays) -> npt.NDArray[np.float64]:
    return np.asarray(rows[0].astype(np.float64) @ WEIGHT)


def doubling(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(2 * WEIGHT, "weight"))
    return model


def work_in(folder: Path, told: list[Event]) -> Work:
    return Work(
        folder=folder,
        resume=folder,
        fingerprint="00",
        device="cpu",
        threads=1,
        choices={},
        code=None,
        tell=told.append,
        folders={},
        fingerprints={},
        figures={},
    )


def test_every_promised_figure_is_measured(tmp_path: Path) -> None:
    settings = ExportSettings(passes=("dead-code", "shape-inference"))
    work = work_in(tmp_path, [])
    found = finished_export(product(), in_numpy, (ROWS,), decision="none", settings=settings, work=work)
    promised = [(each.figure, each.kind, each.model) for each in export_promises(settings)]
    assert [(each.figure, each.kind, each.model) for each in found.figures] == promised
    # Sums of four float32 products of order 1.
    assert found.parity.worst < 1e-6
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "parity.json", "passes.json"]


def test_an_undone_pass_is_told_and_recorded_and_the_graph_stays_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pass_list.PASSES, "fusion", GraphPass("fusion", doubling, ()))
    told: list[Event] = []
    work = work_in(tmp_path, told)
    settings = ExportSettings(passes=("fusion", "dead-code"))
    found = finished_export(product(), in_numpy, (ROWS,), decision="none", settings=settings, work=work)
    assert found.parity.worst < 1e-6
    (report, _) = json.loads((tmp_path / "passes.json").read_text())
    assert report["kept"] is False
    assert work.choices["pass[fusion]"] == f"undone: {report['reason']}"
    assert told == [Warned(f"the graph pass fusion was undone: {report['reason']}")]
    assert of_pass(found.figures, "fusion")["nodes"] == 1
    assert of_pass(found.figures, "fusion")["difference"] == report["difference"] > 0.1


def of_pass(figures: tuple[Figure, ...], name: str) -> dict[str, float]:
    return {each.figure: each.value for each in figures if each.model == name}
