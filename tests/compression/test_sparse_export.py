"""Zeros come through an export: into the file, and into the answers of ONNX Runtime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from onnx import numpy_helper
from sparse_networks import model_of, rows_of
from torch import nn

from mlctl.compression.pruning.prunable_weights import prunable_weights
from mlctl.compression.pruning.sparsity import prune_weights
from mlctl.graphs.export import export
from mlctl.graphs.saving import load_graph
from mlctl.models.complete import CompleteModel
from mlctl.recipe.prune import UnstructuredPruning
from mlctl.runtime.session import OnnxSession

HALF = UnstructuredPruning(method="unstructured", ratio=0.5, scope="layer")


def with_lively_norms(model: CompleteModel) -> CompleteModel:
    """Normalizations that scale and shift, some by negative numbers, so that folding them changes every weight."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.uniform_(part.get_buffer("running_mean"))
            nn.init.uniform_(part.get_buffer("running_var"), 0.5, 2.0)
    return model


def written_as(weight: npt.NDArray[np.float32], stored: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """The tensor of the file that has the weight's zeros, each in its place."""
    forms = [form for each in stored for form in ((each, each.T) if each.ndim == 2 else (each,))]
    found = [form for form in forms if form.shape == weight.shape and ((form == 0) == (weight == 0)).all()]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", ["cnn", "resnet", "vit"])
def test_every_zero_is_one_in_the_file_and_no_other_number_is(name: str, tmp_path: Path) -> None:
    model = with_lively_norms(model_of(name))
    prune_weights(model, HALF, 0.5)
    rows = rows_of(name, 6).inputs
    exported = export(
        model,
        example=tuple(torch.from_numpy(each[:2]) for each in rows),
        input_names=("image",),
        output_name="answer",
        opset=20,
        metadata={},
        into=tmp_path,
    )
    graph = load_graph(exported.path)
    stored = [np.asarray(numpy_helper.to_array(each)) for each in graph.graph.initializer]
    weights = prunable_weights(model.network).weights
    for weight in weights:
        values = weight.parameter.detach().numpy()
        found = written_as(values, stored)
        assert (found == 0).sum() == round(0.5 * values.size)
        if isinstance(weight.layers[0][1], nn.Linear):
            assert (found == values).all()
    answers = OnnxSession(graph.SerializeToString(), threads=1)(rows)
    expected = model(*map(torch.from_numpy, rows)).detach().numpy()
    # float32 through ten layers at most, normalizations folded: 4e-7 of the largest answer is the worst of these three.
    assert np.abs(answers - expected).max() <= 1e-5 * np.abs(expected).max()
