"""Models that were made elsewhere, through the real command: adopted, compared, evaluated; or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from conftest import WHOLE, Lab, new_lab
from graphs_from_elsewhere import linear, logits, mean_of_words, model, torch_export
from onnx import TensorProto, helper

HEAD = WHOLE.partition("train:")[0].replace("scale: 16", "scale: 16, standardize: true")
EVAL = "eval: {latency: null}\n"
EXPORTS = {
    "open": {"batch": None, "external_data": True},
    "fixed": {"batch": 1},
    "fixed-four": {"batch": 4},
    "old-exporter": {"batch": 1, "dynamo": False},
}


@pytest.fixture(scope="module")
def made_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every export of one network, and nothing of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, options in EXPORTS.items():
        torch_export(folder / f"{name}.onnx", **options)  # type: ignore[arg-type]
    return folder


def answers(folder: Path, *rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    feed = {port.name: each for port, each in zip(session.get_inputs(), rows, strict=True)}
    (found,) = session.run(None, feed)
    return np.asarray(found)


def recipe(lab: Lab, *lines: str, head: str = HEAD) -> str:
    (lab.folder / "r.yaml").write_text(head + "".join(f"{line}\n" for line in lines))
    return "r.yaml"


@pytest.mark.parametrize("name", EXPORTS)
def test_torchs_own_export_is_adopted_and_answers_raw_pixels_as_torch_does(
    lab: Lab, made_elsewhere: Path, name: str
) -> None:
    shutil.copytree(made_elsewhere, lab.folder / "models")
    verdict = lab.json(f"run {recipe(lab, f'export: {{from: models/{name}.onnx}}', EVAL)} --threads 1")
    assert [gate["outcome"] for gate in verdict["gates"]] == ["passed"]
    data = json.loads((lab.artifact("whole", "prepare") / "data.json").read_text())
    pixels = np.load(lab.artifact("whole", "prepare") / "test" / "image.npy")
    (scaling,) = data["input_scaling"]
    scaled = (pixels / 16 - scaling["mean"][0]) / scaling["deviation"][0]
    with torch.inference_mode():
        expected = logits()(torch.from_numpy(scaled.astype(np.float32))).softmax(dim=1).numpy()
    folder = lab.artifact("whole", "export")
    for size in (1, 2, len(pixels)):
        # float32 through one convolution and one linear layer, on numbers near 1.
        np.testing.assert_allclose(answers(folder, pixels[:size]), expected[:size], atol=1e-5)
    proto = onnx.load(folder / "model.onnx")
    properties = {each.key: each.value for each in proto.metadata_props}
    assert json.loads(properties["mlctl.labels"]) == ["left", "right"]
    assert json.loads(properties["mlctl.preprocessing"]) == data["input_scaling"]
    assert properties["mlctl.task"] == "image-classification"
    assert [each.name for each in proto.graph.input] == ["pixels"]
    assert len({node.name for node in proto.graph.node} - {""}) == len(proto.graph.node)
    figures = {(each["figure"], each["model"]): each["value"] for each in verdict["steps"][2]["figures"]}
    targets = np.load(lab.artifact("whole", "prepare") / "test" / "target.npy")
    assert figures["accuracy", "export"] == (expected.argmax(axis=1) == targets).mean()


def test_the_content_of_every_file_of_the_model_is_part_of_the_fingerprint(lab: Lab, made_elsewhere: Path) -> None:
    (lab.folder / "models").mkdir()
    # Torch writes an empty file for weights as small as these.
    proto = onnx.load(made_elsewhere / "open.onnx")
    place = lab.folder / "models" / "open.onnx"
    onnx.save(proto, place, save_as_external_data=True, location="open.onnx.data", size_threshold=100)
    name = recipe(lab, "export: {from: models/open.onnx}")
    assert lab(f"run {name} --threads 1 --quiet").code == 0
    before = lab.artifact("whole", "export")
    sources = json.loads((before / "manifest.json").read_text())["sources"]
    assert [each["path"] for each in sources] == ["models/open.onnx", "models/open.onnx.data"]
    planned = lab.watched(f"plan {name}")
    assert planned.out == "prepare  reuse\nexport   reuse\n"
    assert not planned.modules & {"onnx", "onnxruntime", "numpy", "torch"}
    (lab.folder / "models" / "unrelated.data").write_bytes(b"1")
    assert lab(f"plan {name}").out == "prepare  reuse\nexport   reuse\n"
    tensor = next(each for each in proto.graph.initializer if each.name == "linear.weight")
    tensor.raw_data = np.ones(48, np.float32).tobytes()
    onnx.save(proto, place, save_as_external_data=True, location="open.onnx.data", size_threshold=100)
    assert "models/open.onnx.data has other content" in lab(f"plan {name}").out
    assert lab(f"run {name} --threads 1 --quiet").code == 0
    assert lab.artifact("whole", "export") != before


def test_the_same_file_is_adopted_to_the_same_bytes(lab: Lab, made_elsewhere: Path) -> None:
    shutil.copytree(made_elsewhere, lab.folder / "models")
    name = recipe(lab, "export: {from: models/fixed.onnx}")
    assert lab(f"run {name} --threads 1 --quiet").code == 0
    before = lab.bytes_of()
    again = lab(f"run {name} --threads 1 --force export")
    assert (again.code, "other bytes" in again.err) == (0, False)
    assert lab.bytes_of() == before


def test_properties_of_the_file_are_kept_and_what_was_chosen_is_told(lab: Lab) -> None:
    proto = linear(16, 2, batch="rows")
    proto.graph.node.insert(0, helper.make_node("Flatten", ["image"], ["x"]))
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 1, 4, 4]))
    proto.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1))
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["rows", 1]))
    helper.set_model_props(proto, {"author": "somebody else", "mlctl.task": "wrong"})
    onnx.save(proto, lab.folder / "m.onnx")
    result = lab(f"run {recipe(lab, 'export: {from: m.onnx}')} --threads 1")
    assert result.code == 0, result.err
    assert "'scores' is taken for the answer; the outputs label are left out" in result.err
    adopted = onnx.load(lab.artifact("whole", "export") / "model.onnx")
    properties = {each.key: each.value for each in adopted.metadata_props}
    assert (properties["author"], properties["mlctl.task"]) == ("somebody else", "image-classification")
    made = json.loads((lab.artifact("whole", "export") / "manifest.json").read_text())["made"]
    assert made["choices"]["output"] == "softmax was put behind 'scores'"
    assert made["choices"]["inputs"] == "image takes image"


def test_a_regression_is_adopted_with_its_columns(lab: Lab) -> None:
    weights = np.array([[2.0], [-1.0]], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": (1, [None, 2])}, {"y": (1, [None, 1])}, {"w": weights})
    onnx.save(proto, lab.folder / "m.onnx")
    head = (lab.folder / "tiny.yaml").read_text().partition("train:")[0].replace("[a, b]", "[a, b], standardize: false")
    verdict = lab.json(f"run {recipe(lab, 'export: {from: m.onnx}', EVAL, head=head)}")
    figures = {each["figure"]: each["value"] for each in verdict["steps"][2]["figures"] if each["model"]}
    # The rows are 2 a - b with noise of deviation 0.1, which a test split of 6 rows estimates within a factor of 2.5.
    assert 0.02 < figures["rmse"] < 0.25
    assert figures["r2"] > 0.95


def save_words(lab: Lab, **changes: npt.NDArray[Any]) -> None:
    generator = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "ids": generator.integers(0, 50, (80, 6)),
        "mask": generator.integers(0, 2, (80, 6)),
        "numbers": generator.normal(size=(80, 3)).astype(np.float32),
    }
    np.savez(lab.folder / "words.npz", **(arrays | changes))


WORDS = "mlctl: 1\nname: words\nprepare: {task: embedding, source: words.npz}\n"


def test_models_without_a_truth_are_held_against_the_first(lab: Lab) -> None:
    save_words(lab)
    proto = mean_of_words()
    onnx.save(proto, lab.folder / "first.onnx")
    tensor = next(each for each in proto.graph.initializer if each.name == "words")
    vectors = onnx.numpy_helper.to_array(tensor)
    noisy = vectors + np.random.default_rng(2).normal(scale=0.3, size=vectors.shape).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(noisy.astype(np.float32), "words"))
    onnx.save(proto, lab.folder / "second.onnx")
    gate = "gates: [{that: 'eval[export.second].cosine >= 0.5', confidence: 0.95}]"
    steps = ("export.first: {from: first.onnx}", "export.second: {from: second.onnx}", "eval: {split: train}", gate)
    verdict = lab.json(f"run {recipe(lab, *steps, head=WORDS)} --threads 1")
    figures = {(each["figure"], each["model"]): each for each in verdict["steps"][3]["figures"]}
    folder = lab.artifact("words", "prepare") / "train"
    rows = tuple(np.load(folder / f"{name}.npy") for name in ("ids", "mask", "numbers"))
    first, second = (answers(lab.artifact("words", f"export.{name}"), *rows) for name in ("first", "second"))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / norms
    assert figures["cosine", "export.first"]["value"] == figures["worst_cosine", "export.first"]["value"] == 1
    # mlctl adds float32 answers in float64, this test in float32: 8 products near 1.
    assert figures["cosine", "export.second"]["value"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert figures["worst_cosine", "export.second"]["value"] == pytest.approx(cosines.min(), abs=1e-5)
    assert figures["difference", "export.second"]["high"] < 0
    assert verdict["gates"][-1]["difference"]["method"] == "bootstrap"


def test_rows_of_arrays_that_are_not_finite_are_data_errors(lab: Lab) -> None:
    numbers = np.ones((80, 3), np.float32)
    numbers[7, 1] = np.nan
    save_words(lab, numbers=numbers)
    onnx.save(mean_of_words(), lab.folder / "m.onnx")
    name = recipe(lab, "export: {from: m.onnx}", head=WORDS)
    result = lab(f"run {name}")
    assert result.code == 3
    assert "words.npz: row 7 of 'numbers' holds a number that is not finite" in result.err
    assert lab(f"run {name} prepare.on_bad=skip --threads 1").code == 0


def refused(lab: Lab, *lines: str, head: str = HEAD) -> str:
    """What a run says that fails with exit code 3, publishes no export, and leaves the folder as it was."""
    name = recipe(lab, *lines, head=head)
    before = sorted(lab.folder.iterdir())
    result = lab(f"run {name} --threads 1")
    assert result.code == 3, result.err
    assert "Traceback" not in result.err
    assert not (lab.store / "steps" / "whole" / "export").exists()
    assert sorted({*lab.folder.iterdir()} - {lab.store}) == [each for each in before if each != lab.store]
    return result.err


def test_external_data_outside_the_models_folder_is_refused(lab: Lab) -> None:
    (lab.folder / "models").mkdir()
    proto = linear()
    onnx.save(proto, lab.folder / "models" / "m.onnx")
    loaded = onnx.load(lab.folder / "models" / "m.onnx")
    onnx.external_data_helper.set_external_data(loaded.graph.initializer[0], "../w.bin")
    loaded.graph.initializer[0].ClearField("raw_data")
    (lab.folder / "w.bin").write_bytes(bytes(128))
    (lab.folder / "models" / "m.onnx").write_bytes(loaded.SerializeToString())
    said = refused(lab, "export: {from: models/m.onnx}")
    assert "external data '../w.bin' lies outside the model's folder" in said


def test_external_data_that_only_a_protobuf_reader_finds_are_no_source_and_refused(lab: Lab) -> None:
    proto = linear(200, 2)
    onnx.save(proto, lab.folder / "m.onnx", save_as_external_data=True, location="weights", size_threshold=100)
    key, value = b"\x0a\x08location", b"\x12\x07weights"
    content = (lab.folder / "m.onnx").read_bytes()
    assert content.count(key + value) == 1
    # Protobuf readers take the fields of a message in any order; no writer uses another than that of their numbers.
    (lab.folder / "m.onnx").write_bytes(content.replace(key + value, value + key))
    assert "external data 'weights' is named in a way that was not understood" in refused(lab, "export: {from: m.onnx}")


@pytest.mark.parametrize(
    ("shape", "outputs", "message"),
    [
        ([None, 1, 5, 5], 2, "takes 'x' of float32 [?, 1, 5, 5], the prepared data holds 'image' of uint8 [1, 4, 4]"),
        ([None, 16], 2, "takes 'x' of float32 [?, 16], the prepared data holds 'image' of uint8 [1, 4, 4]"),
        ([None, 1, 4, 4], 3, "the model answers with the shape [3] for every row, the data has 2 classes"),
    ],
)
def test_a_model_for_other_rows_or_classes_is_refused(
    lab: Lab, shape: list[int | None], outputs: int, message: str
) -> None:
    weights = np.ones((25 if 5 in shape else 16, outputs), np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    onnx.save(model(nodes, {"x": (1, shape)}, {"y": (1, [None, outputs])}, {"w": weights}), lab.folder / "m.onnx")
    assert message in refused(lab, "export: {from: m.onnx}")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no graph", "this is no ONNX model"), (b"", "has no graph"), (None, "No such file or directory")],
)
def test_what_is_no_model_is_refused(lab: Lab, content: bytes | None, message: str) -> None:
    if content is not None:
        (lab.folder / "m.onnx").write_bytes(content)
    assert message in refused(lab, "export: {from: m.onnx}")


def test_a_truncated_model_is_refused(lab: Lab, made_elsewhere: Path) -> None:
    whole = (made_elsewhere / "fixed.onnx").read_bytes()
    (lab.folder / "m.onnx").write_bytes(whole[: len(whole) // 2])
    assert "m.onnx: " in refused(lab, "export: {from: m.onnx}")


def test_a_batch_that_cannot_be_opened_fails_the_step(lab: Lab) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["scores"]),
        helper.make_node("Split", ["scores"], ["a", "b"], axis=0, num_outputs=2),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Concat", ["sum", "sum"], ["y"], axis=0),
    ]
    weights = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    proto = model(nodes, {"x": (1, [2, 1, 4, 4])}, {"y": (1, [2, 2])}, {"w": weights})
    onnx.save(proto, lab.folder / "m.onnx")
    result = lab(f"run {recipe(lab, 'export: {from: m.onnx}')} --threads 1")
    assert result.code == 4
    assert "the graph takes 2 rows at a time, and cannot be made to take any number" in result.err


def test_a_file_below_the_step_that_names_it_is_no_step(lab: Lab) -> None:
    name = recipe(lab, "export: {from: m.onnx}", "quantize: {from: m.onnx}")
    result = lab(f"plan {name}")
    assert result.code == 2
    assert "quantize.from: there is no step 'm.onnx'" in result.err
    assert "export.from" not in result.err


def test_a_step_of_the_name_comes_before_a_file(tmp_path: Path) -> None:
    lab = new_lab(tmp_path)
    text = (lab.folder / "whole.yaml").read_text().partition("eval:")[0].replace("train:", "train.onnx:")
    (lab.folder / "s.yaml").write_text(text.replace("export: {}", "export: {from: train.onnx}"))
    assert [line.split()[0] for line in lab("plan s.yaml").out.splitlines()] == ["prepare", "train.onnx", "export"]
