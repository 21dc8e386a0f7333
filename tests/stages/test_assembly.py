"""From a recipe's text to steps that are wired, or to everything that is wrong with it."""

from pathlib import Path

import pytest

from mlctl.engine.plan import Life
from mlctl.errors import NotBuilt, RecipeError
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.recipe import Recipe
from mlctl.stages.assembly import assemble, buildable, check_built

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


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    gates = (
        "gates:\n  - eval[train].rsme <= 1\n  - export.parity <= 1\n  - {that: train.bytes >, confidence: 0.9}\n"
        "  - eval[export].rmse <= 1\n"
    )
    steps = (PREPARE, TRAIN, "export: {from: prepare}\n", "quantize: {method: float16}\n", "eval: {}\n")
    assert problems(tmp_path, *steps, gates) == [
        "small.yaml:5:16: export.from: 'prepare' does not make a trained model",
        "small.yaml:6:1: quantize: no step above makes an ONNX model",
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


UNBUILT = (
    PREPARE,
    TRAIN,
    "prune: {method: structured, ratio: 0.5}\n",
    "distill: {teacher: train, model: {arch: linear}}\n",
    "export: {from: train}\n",
    "quantize: {method: qat}\n",
    "eval: {}\n",
    "serve: {}\n",
    "gates:\n  - eval[quantize].rmse <= 1\n  - quantize.anything <= 1\n",
)


def test_stages_that_are_not_built_are_wired_and_gates_on_them_are_believed(tmp_path: Path) -> None:
    life = life_of(tmp_path, *UNBUILT)
    assert inputs(life, "prune") == {"model": "train", "data": "prepare"}
    assert inputs(life, "distill") == {"teacher": "train", "data": "prepare"}
    assert inputs(life, "quantize") == {"model": "export", "data": "prepare"}
    assert inputs(life, "serve") == {"model": "quantize"}
    assert len(life.gates) == 2


def test_only_what_needs_no_unbuilt_stage_is_buildable(tmp_path: Path) -> None:
    assert buildable(life_of(tmp_path, *UNBUILT)) == {"prepare", "train", "export"}
    assert buildable(life_of(tmp_path, PREPARE, TRAIN)) == {"prepare", "train"}


def test_wanted_stages_that_are_not_built_are_refused_all_at_once(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, *UNBUILT)
    life = assemble(recipe)
    check_built(recipe, life, buildable(life))
    with pytest.raises(NotBuilt) as refusal:
        check_built(recipe, life, frozenset(step.name for step in life.steps))
    assert refusal.value.exit_code == 2
    assert [str(each).removeprefix(f"{tmp_path}/") for each in refusal.value.problems] == [
        "small.yaml:5:1: prune: the stage prune is not built in this release of mlctl",
        "small.yaml:6:1: distill: the stage distill is not built in this release of mlctl",
        "small.yaml:8:1: quantize: quantization-aware training, method: qat, is not built in this release of mlctl",
        "small.yaml:10:1: serve: the stage serve is not built in this release of mlctl",
    ]
    assert "--until" in refusal.value.next
