"""From a recipe's text to steps that are wired, or to everything that is wrong with it."""

from pathlib import Path

import pytest

from mlctl.engine.plan import Life
from mlctl.errors import RecipeError, UsageError
from mlctl.recipe.loading import examine_recipe, load_recipe
from mlctl.recipe.recipe import Recipe
from mlctl.stages.assembly import assemble, assemble_examined
from mlctl.stages.serve import served
from mlctl.stages.table import STAGES
from mlctl.stages.wiring import MADE_BY, makes

HEAD = "mlctl: 1\nname: small\n"
PREPARE = "prepare: {task: regression, source: rows.csv, features: {columns: [a, b]}, target: y}\n"
PREPARE_A = PREPARE.replace("prepare:", "prepare.a:")
PREPARE_B = PREPARE.replace("prepare:", "prepare.b:").replace("[a, b]", "[a]")
IMAGES = "prepare.c: {task: image-classification, source: i.csv, image: {columns: p*, shape: [1, 4, 4]}, label: l}\n"
TRAIN = "train: {model: {arch: linear}}\n"


def loaded(folder: Path, *parts: str) -> Recipe:
    """The recipe that these parts make, one after the other; the first of them stands on line 3."""
    path = folder / "small.yaml"
    path.write_text(HEAD + "".join(parts))
    return load_recipe(path)


def life_of(folder: Path, *parts: str) -> Life:
    """Its steps and gates."""
    return assemble(loaded(folder, *parts))


def problems(folder: Path, *parts: str) -> list[str]:
    """Everything that assembling finds wrong, without the folder's name."""
    recipe = loaded(folder, *parts)
    with pytest.raises(RecipeError) as refusal:
        assemble(recipe)
    return [str(each).removeprefix(f"{folder}/") for each in refusal.value.problems]


def inputs(life: Life, step: str) -> dict[str, str]:
    """The names of the steps that a step reads, by role."""
    return {role: each.name for role, each in life.step(step).stage.inputs().items()}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((TRAIN,), ["small.yaml:3:1: train: no step above makes prepared data"]),
        ((PREPARE, "export: {}\n"), ["small.yaml:4:1: export: no step above makes a trained model"]),
        ((PREPARE, "eval: {}\n"), ["small.yaml:4:1: eval: no step above makes a model"]),
        (
            (PREPARE, TRAIN, "export:\n  opset: 20\n  from: prepare\n"),
            ["small.yaml:7:9: export.from: 'prepare' does not make a trained model"],
        ),
        (
            (PREPARE, TRAIN, "quantize: {method: float16, from: train}\n"),
            ["small.yaml:5:35: quantize.from: 'train' does not make an ONNX model"],
        ),
        (
            (PREPARE, TRAIN, IMAGES, "eval: {}\n"),
            ["small.yaml:6:1: eval.data: train is for regression, prepare.c holds data for image-classification"],
        ),
        (
            (IMAGES, PREPARE, TRAIN, "eval:\n  data: prepare.c\n"),
            ["small.yaml:7:9: eval.data: train is for regression, prepare.c holds data for image-classification"],
        ),
    ],
)
def test_a_step_that_cannot_have_what_it_reads_is_refused_at_its_place(
    tmp_path: Path, parts: tuple[str, ...], expected: list[str]
) -> None:
    assert problems(tmp_path, *parts) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("eval[train].rsme <= 1", "no step measures eval[train].rsme; did you mean 'eval[train].rmse'?"),
        ("eval[trian].rmse <= 1", "no step measures eval[trian].rmse; did you mean 'eval[train].rmse'?"),
        ("evla[train].rmse <= 1", "no step measures evla[train].rmse; did you mean 'eval[train].rmse'?"),
        ("export.partiy <= 1", "no step measures export.partiy; did you mean 'export.parity'?"),
        (
            "prepare.wrongly_labelled <= 1",
            "prepare.wrongly_labelled; it gives bad_rows, duplicate_rows, test_rows, train_rows, validation_rows",
        ),
        ("eval[train].rmse", "it ends where a comparison such as >= or <= should be"),
        ("eval[train].rmse <= 1 <= 2", "'<=' stands after the end of the comparison"),
        ("1 <= 2", "no figure is named, so nothing is measured"),
        ("__import__('os') <= 1", "is neither a number, a figure nor one of"),
    ],
)
def test_a_gate_on_nothing_is_refused_with_what_could_be_meant(tmp_path: Path, gate: str, expected: str) -> None:
    (found,) = problems(tmp_path, PREPARE, TRAIN, "export: {}\neval: {}\n", f'gates:\n  - "{gate}"\n')
    assert found.startswith("small.yaml:8:5: gates.0: ")
    assert expected in found


REST = ("export: {}\n", "quantize: {method: float16}\n", "eval: {}\n", "gates:\n  - eval[export].accuracy >= 0.5\n")


def test_what_a_step_lacks_for_another_steps_problem_is_not_worth_a_line(tmp_path: Path) -> None:
    assert problems(tmp_path, IMAGES, "train: {model: {arch: lstm}}\n", *REST) == [
        "small.yaml:4:9: train.model: lstm takes no inputs of image-classification; choose linear or mlp or cnn or "
        "resnet or vit"
    ]


def test_a_step_that_names_one_with_problems_is_not_blamed_for_it(tmp_path: Path) -> None:
    steps = (
        IMAGES,
        "train: {model: {arch: lstm}}\n",
        "distill: {teacher: train, model: {arch: vit, patch: 3}}\n",
        "export: {from: train}\n",
        "export.b: {from: prepare.c}\n",
    )
    assert [each.partition(" ")[0] + each.split(": ")[1] for each in problems(tmp_path, *steps)] == [
        "small.yaml:4:9:train.model",
        "small.yaml:5:53:distill.model.patch",
        "small.yaml:7:18:export.b.from",
    ]


def test_a_student_is_examined_also_where_its_teacher_has_problems(tmp_path: Path) -> None:
    teacher = IMAGES.replace("prepare.c", "prepare") + "train: {model: {arch: lstm}}\n"
    fine = "distill: {teacher: train, model: {arch: cnn}}\n"
    assert len(problems(tmp_path, teacher, fine)) == 1
    found = problems(tmp_path, teacher, fine.replace("cnn}", "vit, patch: 3}, augment: {shift: 4, cutout: 5}"))
    assert [each.split(": ")[1] for each in found] == [
        "train.model", "distill.model.patch", "distill.augment.shift", "distill.augment.cutout",
    ]  # fmt: skip


def test_a_step_above_the_one_with_problems_is_examined(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(HEAD + PREPARE + TRAIN + "export: {from: prepare}\n" + "train.b: {epochz: 3}\n" + "export.b: {}\n")
    with pytest.raises(RecipeError) as refusal:
        assemble_examined(examine_recipe(path))
    assert [each.path for each in refusal.value.problems] == ["export.from", "train.b.epochz"]


def test_the_stages_that_make_each_kind_are_all_of_them(tmp_path: Path) -> None:
    life = life_of(tmp_path, *EVERY_STAGE)
    for kind, stages in MADE_BY.items():
        assert {step.stage.name for step in life.steps if makes(step, kind)} <= set(stages)
    assert set().union(*MADE_BY.values()) | {"eval", "serve"} == set(STAGES)


SMALL_IMAGES = "image: {columns: p*, shape: [3, 5, 4]}"
FOLDER = IMAGES.replace("source: i.csv, image: {columns: p*, shape: [1, 4, 4]}, label: l", "source: photos, {image}")
AUGMENT = "augment: {shift: 4, crop_padding: 9, flip: true, cutout: 5}"


@pytest.mark.parametrize("image", [SMALL_IMAGES, "image: {shape: [3, 5, 4]}"], ids=["columns", "folders"])
def test_what_images_have_no_room_for_is_found_at_once(tmp_path: Path, image: str) -> None:
    found = problems(
        tmp_path,
        FOLDER.replace("{image}", image),
        f"train: {{model: {{arch: vit, patch: 2}}, {AUGMENT}}}\n",
        "train.b: {model: {arch: resnet, depth: 18}}\n",
    )
    most = "at most for images of 5x4 pixels"
    assert found == [
        "small.yaml:4:35: train.model.patch: patches of 2x2 pixels do not fill images of 5x4; choose a `patch` that "
        "divides both sides",
        f"small.yaml:4:56: train.augment.shift: augment.shift is 4 and can be 3 {most}",
        f"small.yaml:4:73: train.augment.crop_padding: augment.crop_padding is 9 and can be 3 {most}",
        f"small.yaml:4:96: train.augment.cutout: augment.cutout is 5 and can be 4 {most}",
        "small.yaml:5:40: train.b.model.depth: a resnet of depth 18 with the cifar stem halves images 3 times and "
        "needs 5x5 pixels, the data has 5x4; choose a depth of three stages (8, 14, 20, ...) or a cnn",
    ]


def test_images_with_just_enough_room_are_fine(tmp_path: Path) -> None:
    life = life_of(
        tmp_path,
        FOLDER.replace("{image}", SMALL_IMAGES.replace("5, 4", "5, 5")),
        "train: {model: {arch: vit, patch: 5}, augment: {shift: 4, crop_padding: 4, cutout: 5}}\n",
        "train.b: {model: {arch: resnet, depth: 18}}\n",
    )
    assert len(life.steps) == 3


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    gates = (
        "gates:\n  - eval[train].rsme <= 1\n  - export.parity <= 1\n  - {that: train.bytes >, confidence: 0.9}\n"
        "  - eval[export].rmse <= 1\n"
    )
    steps = (PREPARE, TRAIN, "export: {from: prepare}\n", "quantize: {method: float16}\n", "eval: {}\n")
    assert problems(tmp_path, *steps, gates) == [
        "small.yaml:5:16: export.from: 'prepare' does not make a trained model",
        "small.yaml:9:5: gates.0: no step measures eval[train].rsme; did you mean 'eval[train].rmse'?",
        "small.yaml:11:5: gates.2: it ends where a number or a figure such as eval[train].accuracy should be",
    ]


def test_an_override_is_blamed_in_its_own_words(tmp_path: Path) -> None:
    loaded(tmp_path, PREPARE, TRAIN, "export: {}\n")
    with pytest.raises(RecipeError) as refusal:
        assemble(load_recipe(tmp_path / "small.yaml", ["export.from=prepare"]))
    (problem,) = refusal.value.problems
    assert "export.from=prepare" in str(problem)
    assert "'prepare' does not make a trained model" in str(problem)


def test_steps_read_the_nearest_that_fits_unless_the_recipe_names_another(tmp_path: Path) -> None:
    steps = (
        PREPARE_A, TRAIN.replace("train", "train.a"), PREPARE_B,
        "train.b: {model: {arch: linear}}\n", "train.c: {data: prepare.a, model: {arch: linear}}\n",
        "export: {}\n", "export.b: {from: train.b}\n", "eval: {}\n", "eval.a: {data: prepare.a}\n",
    )  # fmt: skip
    life = life_of(tmp_path, *steps)
    assert inputs(life, "train.a") == {"data": "prepare.a"}
    assert inputs(life, "train.b") == {"data": "prepare.b"}
    assert inputs(life, "train.c") == {"data": "prepare.a"}
    assert inputs(life, "export") == {"model": "train.c", "data": "prepare.a"}
    assert inputs(life, "export.b") == {"model": "train.b", "data": "prepare.b"}
    models = {name: name for name in ("train.a", "train.b", "train.c", "export", "export.b")}
    assert inputs(life, "eval") == {**models, "data": "prepare.b"}
    assert inputs(life, "eval.a") == {**models, "data": "prepare.a"}


def test_an_evaluation_measures_only_what_stands_above_it(tmp_path: Path) -> None:
    life = life_of(tmp_path, PREPARE, TRAIN, "eval.first: {}\n", "export: {}\n", "eval.second: {}\n")
    assert set(inputs(life, "eval.first")) == {"train", "data"}
    assert set(inputs(life, "eval.second")) == {"train", "export", "data"}


def test_every_figure_of_every_model_can_stand_in_a_gate(tmp_path: Path) -> None:
    eval_step = "eval: {metrics: [mae], latency: {batch: [1, 8]}}\n"
    figures = ("mae", "rmse", "parameters", "bytes", "p50_batch_1", "p95_batch_8", "p99_batch_8")
    gates = [f"eval[{model}].{figure} <= 1" for model in ("train", "export") for figure in figures]
    gates += ["eval[export].difference <= 1", "train.validation_rmse <= 1", "prepare.bad_rows <= 0"]
    life = life_of(
        tmp_path, PREPARE, TRAIN, "export: {}\n", eval_step, "gates:\n" + "".join(f"  - {each}\n" for each in gates)
    )
    assert [gate.text for gate in life.gates] == gates


EVERY_STAGE = (
    PREPARE,
    TRAIN,
    "prune: {method: unstructured, ratio: 0.5}\n",
    "distill: {teacher: train, model: {arch: linear}}\n",
    "export: {from: train}\n",
    "quantize: {method: qat}\n",
    "eval: {}\n",
    "serve: {}\n",
    "gates:\n  - eval[quantize].rmse <= 1\n",
)


def test_every_stage_is_wired_and_serve_is_no_step_of_a_run(tmp_path: Path) -> None:
    life = life_of(tmp_path, *EVERY_STAGE)
    assert inputs(life, "prune") == {"model": "train", "data": "prepare"}
    assert inputs(life, "distill") == {"answers": "distill:teacher", "data": "prepare"}
    assert inputs(life, "distill:teacher") == {"teacher": "train", "data": "prepare"}
    assert inputs(life, "quantize") == {"model": "export", "data": "prepare"}
    assert "serve" not in [step.name for step in life.steps]
    assert len(life.gates) == 1


def test_a_gate_on_a_serve_step_names_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refusal:
        life_of(tmp_path, PREPARE, TRAIN, "export: {}\n", "serve: {}\n", "gates:\n  - serve.anything <= 1\n")
    assert "no step measures serve.anything" in str(refusal.value)


@pytest.mark.parametrize(
    ("steps", "named", "graph"),
    [
        (("export: {}\n", "quantize: {}\n"), None, "quantize"),
        (("export: {}\n", "serve: {port: 9}\n", "quantize: {}\n"), None, "export"),
        (("export: {}\n", "quantize: {}\n", "serve: {from: export, port: 9}\n"), None, "export"),
        (("export: {}\n", "quantize: {}\n", "serve: {port: 9}\n"), "export", "export"),
        (("export: {}\n", "serve.a: {port: 8}\n", "quantize: {}\n", "serve.b: {port: 9}\n"), "serve.b", "quantize"),
    ],
)
def test_what_is_served_is_the_last_graph_above_or_the_one_that_is_named(
    tmp_path: Path, steps: tuple[str, ...], named: str | None, graph: str
) -> None:
    recipe = loaded(tmp_path, PREPARE, TRAIN, *steps)
    found = served(recipe, assemble(recipe), named)
    assert found.model.name == graph
    assert found.settings.port == (9 if "port: 9" in "".join(steps) else 8080)


@pytest.mark.parametrize(
    ("steps", "named", "what"),
    [
        ((), None, "there is nothing to serve: no step above makes an ONNX model"),
        (("export: {}\n", "serve.a: {}\n", "serve.b: {}\n"), None, "the recipe has 2 serve steps"),
        (("export: {}\n",), "train", "train makes no ONNX model"),
        (("export: {}\n",), "nothing", "the recipe has no step 'nothing'"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, steps: tuple[str, ...], named: str | None, what: str) -> None:
    recipe = loaded(tmp_path, PREPARE, TRAIN, *steps)
    with pytest.raises(UsageError) as refusal:
        served(recipe, assemble(recipe), named)
    assert what in refusal.value.what
