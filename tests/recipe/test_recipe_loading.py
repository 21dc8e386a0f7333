import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.errors import MlctlError, RecipeError, UsageError
from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.evaluate import EvalSettings
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.prepare import ImageClassificationData, SplitByColumn, SplitByFiles, SplitByShare
from mlctl.recipe.quantize import HalfQuantization, StaticQuantization
from mlctl.recipe.recipe import Gate, Recipe, Step
from mlctl.recipe.train import TrainSettings
from mlctl.recipe.tree import Place

DIGITS = Path(__file__).parent / "digits.yaml"


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_bytes(text.encode())
    return load_recipe(path, overrides)


def test_the_steps_stand_in_the_order_of_the_file() -> None:
    recipe = load_recipe(DIGITS)
    assert [(step.name, step.stage) for step in recipe.steps] == [
        ("prepare", "prepare"),
        ("train", "train"),
        ("prune", "prune"),
        ("distill", "distill"),
        ("export", "export"),
        ("quantize", "quantize"),
        ("quantize.half", "quantize"),
        ("eval", "eval"),
        ("serve", "serve"),
    ]


def test_the_settings_are_what_the_file_says() -> None:
    recipe = load_recipe(DIGITS)
    assert (recipe.path, recipe.name, recipe.seed) == (DIGITS, "digits", 7)
    prepare, train = recipe.step("prepare").settings, recipe.step("train").settings
    assert isinstance(prepare, ImageClassificationData)
    assert prepare.source == ("data/digits.csv.gz",)
    assert prepare.split == SplitByShare(train=0.7, validation=0.15, test=0.15, stratify=True)
    assert isinstance(train, TrainSettings)
    assert (train.epochs, train.optimizer.lr, train.schedule.warmup) == (30, 0.002, 0.1)
    assert isinstance(recipe.step("quantize").settings, StaticQuantization)
    half = recipe.step("quantize.half").settings
    assert isinstance(half, HalfQuantization)
    assert half.from_ == "export"
    assert recipe.gates[-1] == Gate("eval[quantize].bytes <= 0.35 * eval[export].bytes", 0.95)


def test_a_step_without_a_value_has_its_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, "mlctl: 1\nname: x\ntrain:\neval: null\n")
    assert recipe.steps == (Step("train", "train", TrainSettings()), Step("eval", "eval", EvalSettings()))
    assert recipe.seed == 0


@pytest.mark.parametrize(
    ("word", "meaning"), [("yes", True), ("on", True), ("true", True), ("No", False), ("off", False)]
)
def test_a_flag_reads_what_a_person_means(word: str, meaning: bool, tmp_path: Path) -> None:
    quantize = load(tmp_path, f"mlctl: 1\nname: x\nquantize: {{per_channel: {word}}}\n").step("quantize").settings
    assert isinstance(quantize, StaticQuantization)
    assert quantize.per_channel is meaning


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("source: a, split: {column: part}", SplitByColumn(column="part")),
        ("split: {files: {train: a, test: [b, c]}}", {"train": ("a",), "validation": None, "test": ("b", "c")}),
    ],
)
def test_each_kind_of_split_is_read(split: str, expected: object, tmp_path: Path) -> None:
    text = f"mlctl: 1\nname: x\nprepare: {{task: image-classification, image: {{shape: [1, 2, 2]}}, {split}}}\n"
    prepare = load(tmp_path, text).step("prepare").settings
    assert isinstance(prepare, ImageClassificationData)
    found = prepare.split
    assert (found.files.model_dump() if isinstance(found, SplitByFiles) else found) == expected


@pytest.mark.parametrize("teacher", ["train", "models/big.onnx", "https://models.example/v2/models/big"])
def test_a_teacher_is_a_step_a_file_or_a_service(teacher: str, tmp_path: Path) -> None:
    text = f"mlctl: 1\nname: x\ntrain: {{}}\ndistill: {{teacher: '{teacher}'}}\n"
    distill = load(tmp_path, text).step("distill").settings
    assert isinstance(distill, DistillSettings)
    assert distill.teacher == teacher


def test_later_layers_can_report_at_the_right_place() -> None:
    recipe = load_recipe(DIGITS, ["train.epochs=4"])
    assert recipe.place("gates", 1) == Place(30, 5, str(DIGITS))
    assert recipe.place("quantize.half", "from") == Place(24, 23, str(DIGITS))
    assert recipe.place("train", "schedule", "floor") == Place(17, 3, str(DIGITS))
    assert recipe.place("train", "epochs") == Place(0, 0, "--set train.epochs=4")
    assert str(recipe.problem(("gates", 0), "no")) == f"{DIGITS}:29:5: gates.0: no"
    assert str(recipe.problem(("export", "from"), "no")) == f"{DIGITS}:22:1: export.from: no"


def test_a_step_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"there is no step 'quantise'; did you mean 'quantize'\?"):
        load_recipe(DIGITS).step("quantise")


REGRESSION = "{task: regression, source: a, features: {columns: x}, target: y}"
IMAGES = "{task: image-classification, source: a, image: {shape: [1, 8, 8]}}"


@pytest.mark.parametrize(
    ("steps", "metrics"),
    [
        ("eval: {metrics: [mae, f1]}", ["f1"]),
        ("eval: {data: prepare.images, metrics: [mae, f1, top_5_accuracy]}", ["mae"]),
        ("train: {data: prepare.images, keep_best: accuracy}", []),
        ("train: {keep_best: accuracy}", ["accuracy"]),
        ("train: {data: prepare.images}\nprune: {ratio: 0.5, finetune: {keep_best: accuracy}}", []),
        (
            "train.a: {data: prepare.images}\ntrain.b: {}\n"
            "prune: {ratio: 0.5, from: train.a, finetune: {keep_best: accuracy}}\n"
            "export: {}\nquantize: {method: qat, keep_best: rmse}",
            ["rmse"],
        ),
    ],
)
def test_a_metric_is_looked_up_in_the_task_of_the_data_that_the_model_saw(
    steps: str, metrics: list[str], tmp_path: Path
) -> None:
    text = f"mlctl: 1\nname: x\nprepare.images: {IMAGES}\nprepare: {REGRESSION}\n{steps}\n"
    try:
        load(tmp_path, text)
        refused: list[str] = []
    except RecipeError as error:
        refused = re.findall(r"'(\w+)' is not one of", error.what)
    assert refused == metrics


def test_thousands_of_steps_are_read_in_a_moment(tmp_path: Path) -> None:
    # A chain whose every link is looked up from scratch would take minutes; the time limit of the suite catches it.
    steps = "\n".join(f"prune.s{number}: {{ratio: 0.5}}" for number in range(4_000))
    text = f"mlctl: 1\nname: x\nprepare: {REGRESSION}\ntrain: {{}}\n{steps}\n"
    assert len(load(tmp_path, text).steps) == 4_002


def test_loading_imports_nothing_that_computes() -> None:
    code = (
        "import sys; from pathlib import Path; from mlctl.recipe.loading import load_recipe; "
        "load_recipe(Path(sys.argv[1])); "
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'jsonschema', 'difflib', 'rich', 'typer'}; "
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(DIGITS)], check=True)


ODDITIES = (
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!x ",
        b"---\n",
        b'"\\ud800"',
        b"9" * 500,
        b".nan",
        b"1e999",
        b"0x10",
        b"null",
        b"true",
    ),
    *(
        b"\xff",
        b"\t",
        b"'",
        b"|\n",
        b">-\n",
        b"? ",
        b"[",
        b"{",
        b"finetune: ",
        b"teacher: ",
        b"'static': ",
        b"\xe2\x80\xa8",
    ),
)
TOKENS = sorted({*re.findall(rb"\w+|[^\w\s]|\s+", DIGITS.read_bytes()), *ODDITIES})


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A whole recipe in which a few stretches are deleted or replaced."""
    raw = DIGITS.read_bytes()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        length = draw(st.integers(0, 12))
        raw = raw[:start] + draw(st.sampled_from(TOKENS) | st.binary(max_size=3) | st.just(b"")) + raw[start + length :]
    return raw


@st.composite
def reworded(draw: st.DrawFn) -> bytes:
    """A whole recipe in which one or two words are other words: mostly YAML, seldom a recipe."""
    parts = re.split(rb"(\w+)", DIGITS.read_bytes())
    for _ in range(draw(st.integers(1, 2))):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(TOKENS))
    return b"".join(parts)


def refusal_of(path: Path, overrides: tuple[str, ...] = ()) -> MlctlError | None:
    try:
        load_recipe(path, overrides)
    except MlctlError as error:
        return error
    return None


def assert_read_or_refused(path: Path, overrides: tuple[str, ...] = ()) -> None:
    error = refusal_of(path, overrides)
    assert error is None or type(error) is RecipeError
    lines = [str(problem) for problem in error.problems] if isinstance(error, RecipeError) else ["read"]
    assert lines
    assert all(line.isprintable() for line in lines)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=mutated() | reworded() | st.binary(max_size=60))
def test_whatever_the_file_holds_it_is_read_or_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(raw)
    assert_read_or_refused(path)


VALUES = st.sampled_from([token.decode(errors="surrogateescape") for token in TOKENS]) | st.text(max_size=8)
KEYS = (
    "prepare",
    "train",
    "quantize",
    "half",
    "model",
    "split",
    "image",
    "finetune",
    "task",
    "method",
    "gates",
    "0",
    "x",
)
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)


@settings(max_examples=200)
@given(path=PATHS, value=VALUES)
def test_whatever_is_set_it_is_read_or_refused(path: list[str], value: str) -> None:
    assert_read_or_refused(DIGITS, (f"{'.'.join(path)}={value}",))
