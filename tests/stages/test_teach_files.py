"""Teachers that are ONNX files: what fits is used as it wants to be, what does not is refused in words."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from conftest import Lab
from graphs_from_elsewhere import linear, model
from onnx import TensorProto, helper
from schools import School, figures, outcome, softmax

from mlctl.events import Warned
from mlctl.graphs.properties import read_properties, write_properties
from mlctl.stages.wiring import WiringError

SIDES = np.tile(np.array([[1.0, -1.0]]), (16, 1)) * np.tile([1, 1, -1, -1], 4)[:, None]
"""Left pixels speak for the first class, right ones for the second, as in the lab's images."""


def sided(weight: float, dtype: str = "float32", *, ends_in: str = "", batch: int | str = "rows") -> onnx.ModelProto:
    """A foreign classifier of 4x4 images by the brightness of their sides, that answers with logits or with softmax."""
    kind = int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        helper.make_node(ends_in or "Identity", ["logits"], ["scores"]),
    ]
    inputs = {"pixels": (kind, [batch, 1, 4, 4])}
    outputs = {"scores": (TensorProto.FLOAT, [batch, 2])}
    return model(nodes, inputs, outputs, {"w": (weight * SIDES).astype(np.float32)})


def expected(school: School, weight: float, scale: float = 1.0) -> npt.NDArray[np.float64]:
    (images,) = school.data.split("train").inputs
    return softmax(images.reshape(len(images), 16) / scale @ (weight * SIDES))


def saved(lab: Lab, graph: onnx.ModelProto, name: str = "teacher.onnx") -> str:
    onnx.save(graph, lab.folder / name)
    return name


@pytest.fixture
def school(finished_lab: Lab) -> School:
    return School(finished_lab)


def test_a_graph_of_a_step_and_its_copy_answer_as_its_network_does(school: School) -> None:
    school.ask("train")
    (of_network,) = school.answers.arrays
    assert outcome(school.ask("export")) == "ran"
    (of_graph,) = school.answers.arrays
    # The graph gives probabilities; their logarithms are the logits again, within float32 and float16.
    np.testing.assert_allclose(softmax(of_graph), softmax(of_network), atol=2**-8)
    shutil.copyfile(school.lab.artifact("whole", "export") / "model.onnx", school.lab.folder / "copy.onnx")
    assert outcome(school.ask("copy.onnx")) == "ran"
    assert np.array_equal(school.answers.arrays[0], of_graph)
    assert outcome(school.ask("copy.onnx")) == "reused"
    graph = onnx.load(school.lab.folder / "copy.onnx")
    graph.doc_string = "the same, told otherwise"
    assert outcome(school.ask(saved(school.lab, graph, "copy.onnx"))) == "ran"


@pytest.mark.parametrize("ends_in", ["", "Softmax"])
@pytest.mark.parametrize("batch", ["rows", 1, 4])
def test_logits_and_probabilities_in_any_batch_teach_the_same(school: School, ends_in: str, batch: int | str) -> None:
    teacher = saved(school.lab, sided(0.05, "uint8", ends_in=ends_in, batch=batch))
    assert school.ask(teacher).failures == ()
    np.testing.assert_allclose(softmax(school.answers.arrays[0]), expected(school, 0.05), atol=2**-8)
    assert "teacher_inputs" not in school.choices


@pytest.mark.parametrize(("weight", "scale", "said"), [(0.05, 1.0, "raw"), (0.8, 16.0, "scaled")])
def test_how_numbers_are_wanted_is_found_out_on_held_out_rows(
    school: School, weight: float, scale: float, said: str
) -> None:
    """A weight for raw pixels says nothing of scaled ones, and one for scaled pixels far too much of raw ones."""
    teacher = saved(school.lab, sided(weight))
    verdict = school.ask(teacher)
    np.testing.assert_allclose(softmax(school.answers.arrays[0]), expected(school, weight, scale), atol=2**-8)
    assert school.choices["teacher_inputs"].startswith(f"{said}: log_loss on held-out rows")
    assert not any(isinstance(each, Warned) for each in school.told)
    assert figures(verdict)["validation_accuracy"].value > 0.8


def test_a_teacher_that_knows_nothing_is_told_of(school: School) -> None:
    verdict = school.ask(saved(school.lab, sided(0.0)))
    assert verdict.failures == ()
    (warned,) = [each.text for each in school.told if isinstance(each, Warned)]
    assert warned.startswith("the teacher is no better than chance on the validation split: accuracy ")


def regressing(matrix: npt.NDArray[np.float32], shape: list[int | str]) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, {"x": (TensorProto.FLOAT, ["rows", 2])}, {"y": (TensorProto.FLOAT, shape)}, {"w": matrix})


@pytest.mark.parametrize(("matrix", "shape"), [([[2.0], [-1.0]], ["rows", 1]), ([2.0, -1.0], ["rows"])])
def test_numbers_in_the_targets_own_unit_become_those_that_the_student_learns(
    finished_lab: Lab, matrix: list[float], shape: list[int | str]
) -> None:
    school = School(finished_lab, "tiny")
    verdict = school.ask(saved(finished_lab, regressing(np.array(matrix, np.float32), shape)))
    assert verdict.failures == ()
    data = school.data
    (features,), unit = data.split("train").inputs, data.description.target_scaling
    wanted = (features @ np.array([2.0, -1.0]) - unit.mean[0]) / unit.deviation[0]
    # Float32 arithmetic on numbers near 1.
    np.testing.assert_allclose(school.answers.arrays[0][:, 0], wanted, atol=1e-5)
    assert school.choices["teacher_inputs"].startswith("raw: rmse")
    assert figures(verdict)["validation_rmse"].value < 0.2


def relabelled(lab: Lab, **properties: str) -> str:
    graph = onnx.load(lab.artifact("whole", "export") / "model.onnx")
    write_properties(graph, read_properties(graph) | {f"mlctl.{key}": value for key, value in properties.items()})
    return saved(lab, graph)


@pytest.mark.parametrize(
    ("properties", "what"),
    [
        ({"labels": '["right","left"]'}, "the teacher learnt the same classes in another order: 'right', 'left', and"),
        ({"labels": '["up","down"]'}, "the teacher learnt the classes 'up', 'down', the data has 'left', 'right'"),
        ({"task": "regression"}, "the teacher is for regression, the data is for image-classification"),
        ({"labels": "[1]"}, "labels that are not texts"),
    ],
)
def test_what_a_graph_of_mlctls_own_says_of_itself_must_fit(
    school: School, properties: dict[str, str], what: str
) -> None:
    verdict = school.ask(relabelled(school.lab, **properties))
    (failure,) = verdict.failures
    assert verdict.exit_code == 3
    assert what in failure.what
    assert failure.where is not None
    assert failure.where.endswith("teacher.onnx")


def test_other_preprocessing_in_the_graph_is_no_matter(school: School) -> None:
    """Both take raw rows; what happens to them inside is each one's own."""
    teacher = relabelled(school.lab, preprocessing='[{"deviation":[2.0],"mean":[1.0],"scale":255.0}]')
    assert school.ask(teacher).failures == ()
    assert "teacher_inputs" not in school.choices


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (linear(columns=16), "the graph takes 'x' of float32 [rows, 16], the prepared data holds 'image' of uint8"),
        (sided(1.0, "bool"), "the graph takes 'pixels' of bool"),
    ],
)
def test_other_inputs_are_refused_with_both_sides(school: School, graph: onnx.ModelProto, what: str) -> None:
    verdict = school.ask(saved(school.lab, graph))
    assert verdict.exit_code == 3
    assert what in verdict.failures[0].what


def test_another_number_of_classes_is_refused(school: School) -> None:
    three = sided(1.0, "uint8")
    three.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.zeros((16, 3), np.float32), "w"))
    three.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    verdict = school.ask(saved(school.lab, three))
    assert verdict.exit_code == 3
    assert "as a teacher: the model answers with the shape [3] for every row, the data has 2 classes" in (
        verdict.failures[0].what
    )


def test_a_file_that_is_no_graph_is_refused(school: School) -> None:
    (school.lab.folder / "teacher.onnx").write_bytes(b"no graph")
    assert school.ask("teacher.onnx").exit_code == 3


def test_answers_that_are_no_numbers_fail_the_step(school: School) -> None:
    verdict = school.ask(saved(school.lab, sided(float("inf"), "uint8", ends_in="Softmax")))
    assert verdict.exit_code == 4
    assert "is not a finite number" in verdict.failures[0].what


@pytest.mark.parametrize(
    ("teacher", "what"),
    [
        ("nobody", "no step above is named 'nobody'"),
        ("nothing.onnx", "there is no file 'nothing.onnx' beside the recipe"),
        ("prepare", "'prepare' does not make a model"),
        ("http://localhost/nets/1", "this is not the address of a served model; write it as http://HOST:PORT/v2/"),
    ],
)
def test_what_the_recipe_alone_tells_is_told_before_anything_runs(school: School, teacher: str, what: str) -> None:
    with pytest.raises(WiringError) as refusal:
        school.source(teacher)
    assert what in str(refusal.value)
    assert refusal.value.key == "teacher"


def test_a_language_models_graph_teaches_tokens(language_lab: Lab) -> None:
    school = School(language_lab, "language")
    school.ask("train", top_k=4)
    of_network = [np.array(each) for each in school.answers.arrays]
    assert outcome(school.ask("export", top_k=4)) == "ran"
    for mine, theirs in zip(school.answers.arrays, of_network, strict=True):
        # Two ways of the same sums may tell two nearly equal tokens apart otherwise.
        assert (mine == theirs).mean() > 0.99
    other: Path = language_lab.folder / "other.onnx"
    onnx.save(linear(columns=16, dtype="float32"), other)
    assert school.ask("other.onnx").exit_code == 3
