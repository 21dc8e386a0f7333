"""Every form of message, as a user sees it."""

from pathlib import Path

import pytest

from mlctl.errors import RecipeError, UsageError
from mlctl.recipe.loading import load_recipe

HEAD = "mlctl: 1\nname: x\n"
IMAGES = "prepare: {task: image-classification, source: a.csv, image: {shape: [1, 8, 8]}, label: y}\n"
METHODS = "auto, static, dynamic, weight-only, float16, qat"
METRICS = "accuracy, top_<k>_accuracy, precision, recall, f1, log_loss"


def problems(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(folder)
    Path("r.yaml").write_text(text)
    with pytest.raises(RecipeError) as refused:
        load_recipe(Path("r.yaml"))
    assert refused.value.exit_code == 2
    return refused.value.what.splitlines()


CASES = {
    "unknown key": (
        "train:\n  optimizer:\n    name: adamw\n    lrr: 1",
        "6:5: train.optimizer.lrr: unknown key; did you mean 'lr'?",
    ),
    "unknown key, nothing close": ("train: {zzz: 1}", "3:9: train.zzz: unknown key"),
    "key of another variant": (
        "quantize: {method: float16, calibration: {}}",
        "3:29: quantize.calibration: unknown key with method: float16; it belongs to auto, static, qat",
    ),
    "python's name of a key": ("export: {from_: x}", "3:10: export.from_: unknown key; did you mean 'from'?"),
    "unsafe key": ('train: {"\\e[31m": 1}', "3:9: train.'\\x1b[31m': unknown key"),
    "not one of": (
        "quantize:\n  method: int8",
        "4:11: quantize.method: 'int8' is not one of auto, static, dynamic, weight-only, float16, qat",
    ),
    "not one of, close": (
        "quantize: {method: statik}",
        f"3:20: quantize.method: 'statik' is not one of {METHODS}; did you mean 'static'?",
    ),
    "literal": (
        "eval: {split: tests}",
        "3:15: eval.split: 'tests' is not one of train, validation, test; did you mean 'test'?",
    ),
    "literal of numbers": (
        "train: {model: {arch: cnn, kernel: 4}}",
        "3:36: train.model.kernel: 4 is not one of 1, 3, 5, 7",
    ),
    "no variant chosen": (
        "train: {model: {hidden: [3]}}",
        "3:9: train.model.arch: missing; write one of linear, mlp, cnn, resnet, vit, lstm, gru, transformer, "
        "package.module:Class",
    ),
    "variant of a wrong type": (
        "prune: {method: [a]}",
        "3:17: prune.method: a list is not one of structured, unstructured, n-of-m",
    ),
    "missing": ("distill: {}", "3:1: distill.teacher: missing; it has no default"),
    "missing, nested": (
        "prepare:\n  task: image-classification\n  source: a\n  image: {}",
        "6:3: prepare.image.shape: missing; it has no default",
    ),
    "at least": ("train: {epochs: 0}", "3:17: train.epochs: must be at least 1"),
    "at most": ("serve: {port: 99999}", "3:15: serve.port: must be at most 65,535"),
    "less than": ("distill: {teacher: a.onnx, hard: 1}", "3:34: distill.hard: must be less than 1"),
    "more than": ("export: {tolerance: 0}", "3:21: export.tolerance: must be more than 0"),
    "finite": ("export: {tolerance: .inf}", "3:21: export.tolerance: must be a finite number"),
    "whole number": (
        "train: {epochs: '3'}",
        "3:17: train.epochs: expected a whole number, found the text '3'; take the quotes away",
    ),
    "whole number, not a fraction": (
        "train: {epochs: 1.5}",
        "3:17: train.epochs: expected a whole number, found the number 1.5",
    ),
    "whole number, not a flag": ("train: {epochs: true}", "3:17: train.epochs: expected a whole number, found true"),
    "whole number, not nothing": ("train: {epochs: null}", "3:9: train.epochs: expected a whole number, found nothing"),
    "number": ("export: {tolerance: much}", "3:21: export.tolerance: expected a number, found the text 'much'"),
    "text": ("train: {keep_best: 3}", "3:20: train.keep_best: expected a text, found the number 3; write it in quotes"),
    "flag": ("quantize: {per_channel: 1}", "3:25: quantize.per_channel: expected true or false, found the number 1"),
    "list": ("eval: {latency: {batch: 1}}", "3:25: eval.latency.batch: expected a list, found the number 1"),
    "one or many": (
        "prune: {ratio: 0.5, protect: 1}",
        "3:30: prune.protect: expected a text or a list of texts, found the number 1",
    ),
    "keys": ("eval: {latency: 1}", "3:17: eval.latency: expected keys with values, found the number 1"),
    "keys of a step": ("quantize: [1]", "3:11: quantize: expected keys with values, found a list"),
    "keys of a variant": ("train: {model: cnn}", "3:16: train.model: expected keys with values, found the text 'cnn'"),
    "number or word": (
        "serve: {workers: many}",
        "3:18: serve.workers: expected a whole number or 'auto', found the text 'many'",
    ),
    "number or word, out of range": ("serve: {workers: 0}", "3:18: serve.workers: must be at least 1"),
    "too few": (
        "train: {model: {arch: mlp, hidden: []}}",
        "3:36: train.model.hidden: needs at least 1 item, found none",
    ),
    "too few of a fixed number": (
        "train: {optimizer: {name: adam, betas: [0.9]}}",
        "3:40: train.optimizer.betas: needs 2 items, found 1",
    ),
    "too many": (
        "train: {optimizer: {name: adam, betas: [0, 0, 0]}}",
        "3:40: train.optimizer.betas: takes at most 2 items, found 3",
    ),
    "item of a list": (
        "train: {model: {arch: mlp, hidden: [8, x]}}",
        "3:40: train.model.hidden.1: expected a whole number, found the text 'x'",
    ),
    "a class's own sentence": (
        "prune: {}",
        "3:1: prune: exactly one of ratio, parameters, flops and latency says how much; here: none",
    ),
    "a nested class's own sentence": (
        "prepare:\n  task: regression\n  source: a\n  features: {columns: x}\n  target: y\n  split: {train: 0.5}",
        "8:3: prepare.split: train, validation and test add up to 0.7, not to 1",
    ),
    "a size": (
        "quantize: {calibration: {max_memory: lots}}",
        "3:38: quantize.calibration.max_memory: 'lots' is not a size; write it as 512MB or 2GiB",
    ),
    "a size beyond numbers": (
        f"quantize: {{calibration: {{max_memory: '{'9' * 350}TB'}}}}",
        "3:38: quantize.calibration.max_memory: 99999999999999999999… is more than any machine has",
    ),
    "unknown stage": ("trian: {}", "3:1: trian: unknown key; did you mean 'train'?"),
    "unknown stage, nothing close": (
        "zzz.a: {}",
        "3:1: zzz.a: unknown key; the stages are prepare, train, prune, distill, export, quantize, eval, serve",
    ),
    "step's own name": (
        "export.Half: {}",
        "3:1: export.Half: a step's own name has small letters, digits, '-' and '_'",
    ),
    "gate": ("export: {}\ngates: [{that: a, confidence: 1}]", "4:31: gates.0.confidence: must be less than 1"),
    "gate without a condition": (
        "export: {}\ngates:\n- {confidence: 0.9}",
        "5:3: gates.0.that: missing; it has no default",
    ),
    "no step": (
        "seed: 3",
        "1:1: no step; write at least one of prepare, train, prune, distill, export, quantize, eval, serve",
    ),
    "from a misspelt step": (
        "train: {}\nexport: {from: trian}",
        "4:16: export.from: there is no step 'trian'; did you mean 'train'?",
    ),
    "from no step": (
        f"{IMAGES}train: {{}}\nexport: {{from: zzz}}",
        "5:16: export.from: there is no step 'zzz'; above it stand prepare, train",
    ),
    "from nothing above": ("export: {from: zzz}", "3:16: export.from: there is no step 'zzz'; above it stand none"),
    "from below": (
        "export: {from: train}\ntrain: {}",
        "3:16: export.from: 'train' stands below; a step takes from one above it",
    ),
    "from itself": ("export.a: {from: export.a}", "3:18: export.a.from: a step cannot take from itself"),
    "data that is none": ("train: {}\neval: {data: train}", "4:14: eval.data: 'train' is no prepare step"),
    "teacher": ("distill: {teacher: train}", "3:20: distill.teacher: there is no step 'train'; above it stand none"),
    "metric": (
        f"{IMAGES}eval: {{metrics: [f1, acuracy]}}",
        f"4:22: eval.metrics.1: 'acuracy' is not one of {METRICS}; did you mean 'accuracy'?",
    ),
    "metric of no rank": (
        f"{IMAGES}eval: {{metrics: [top_0_accuracy]}}",
        f"4:18: eval.metrics.0: 'top_0_accuracy' is not one of {METRICS}; did you mean 'top_<k>_accuracy'?",
    ),
    "watched while training": (
        f"{IMAGES}train: {{keep_best: f1}}",
        "4:20: train.keep_best: 'f1' is not one of loss, accuracy",
    ),
    "watched while finetuning": (
        f"{IMAGES}train: {{}}\nprune: {{ratio: 0.5, finetune: {{early_stopping: {{metric: rmse}}}}}}",
        "5:57: prune.finetune.early_stopping.metric: 'rmse' is not one of loss, accuracy",
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_a_problem_says_where_and_what(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(f"{HEAD}{text}\n", tmp_path, monkeypatch) == [f"r.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "r.yaml:1:1: the file is empty; a recipe begins with `mlctl: 1`, a name and a step"),
        ("---\n", "r.yaml:1:1: the file is empty; a recipe begins with `mlctl: 1`, a name and a step"),
        ("- a", "r.yaml:1:1: expected keys with values, found a list"),
        ("name: x\nexport: {}", "r.yaml:1:1: mlctl: missing; write `mlctl: 1`"),
        ("mlctl: 1\nexport: {}", "r.yaml:1:1: name: missing; write `name:` and a name for the model"),
        (
            "mlctl: 2\nname: x\nexport: {}",
            "r.yaml:1:8: mlctl: this release reads version 1 of the recipe language, not 2",
        ),
        ("mlctl: 1\nname: x\nseed: -1\nexport: {}", "r.yaml:3:7: seed: must be at least 0"),
        (f"mlctl: 1\nname: x\nseed: {2**63}\nexport: {{}}", f"r.yaml:3:7: seed: must be less than {2**63:,}"),
    ],
)
def test_a_problem_of_the_head_says_where_and_what(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(text, tmp_path, monkeypatch) == [expected]


@pytest.mark.parametrize("name", ["Digits", "a b", "-a", ".a", "a" * 65, "é", "''"])
def test_a_name_that_could_not_name_a_file_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = problems(f"mlctl: 1\nname: {name}\nexport: {{}}\n", tmp_path, monkeypatch)
    assert problem.startswith("r.yaml:2:7: name: a name has up to 64 small letters")


def test_all_problems_are_told_at_once_in_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = "serve: {from: exprot, port: x}\ngates: [3]\nexport: {from: serve, opset: 3}\nprepare: {task: sorting}\n"
    places = [line.split(": ")[:2] for line in problems(f"{steps}name: x\n", tmp_path, monkeypatch)]
    assert places == [
        ["r.yaml:1:1", "mlctl"],
        ["r.yaml:1:15", "serve.from"],
        ["r.yaml:1:29", "serve.port"],
        ["r.yaml:2:9", "gates.0"],
        ["r.yaml:3:30", "export.opset"],
        ["r.yaml:4:17", "prepare.task"],
    ]


def test_a_missing_recipe_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recipe") as refused:
        load_recipe(tmp_path / "no.yaml")
    assert "mlctl init" in refused.value.next


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder, not a recipe"):
        load_recipe(tmp_path)


def test_a_path_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be read: Not a directory"):
        load_recipe(tmp_path / "file" / "r.yaml")
