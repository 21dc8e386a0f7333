"""The task without a truth: models are held against the first one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mlctl.data.description import Scaling
from mlctl.data.reading import EveryArray
from mlctl.errors import DataError, RecipeError, StepFailed
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.prepare import EmbeddingData
from mlctl.stages.assembly import assemble
from mlctl.tasks.embedding import Embedding
from mlctl.tasks.image_classification import ImageClassification
from mlctl.tasks.pairing import metric_difference
from mlctl.tasks.regression import Regression

HEAD = "mlctl: 1\nname: e\nprepare:\n  task: embedding\n  source: a.npz\n"


def test_it_reads_every_array_and_no_target() -> None:
    reading = Embedding().reading(EmbeddingData(task="embedding", source=("a.npz",)))
    assert (reading.inputs, reading.target) == ((EveryArray(),), None)


def test_figures_hold_answers_against_the_first_models() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=(40, 3, 4)).astype(np.float32)
    near, far = (first + generator.normal(scale=scale, size=first.shape).astype(np.float32) for scale in (0.1, 1.0))
    by_model = [
        {each.name: each for each in Embedding().measure(("cosine", "worst_cosine"), answers, first, 0.95)}
        for answers in (first, near, far)
    ]
    values = [found["cosine"].value for found in by_model]
    assert values[0] == 1 > values[1] > values[2]
    assert all(found["worst_cosine"].value <= found["cosine"].value for found in by_model)
    assert all(found["cosine"].low <= found["cosine"].value <= found["cosine"].high for found in by_model)
    difference = metric_difference(Embedding(), "cosine", (near, first), first, 0.95)
    assert difference.estimate == pytest.approx(values[1] - 1)
    assert difference.interval.high < 0


def test_answers_of_another_shape_than_the_first_models_are_refused() -> None:
    with pytest.raises(StepFailed, match=r"the shape \[3\] for every row, the first one with \[4\]"):
        Embedding().measure(("cosine",), np.ones((2, 3)), np.ones((2, 4)), 0.95)


def test_answers_stay_as_they_are() -> None:
    answers = torch.randn(3, 4)
    assert torch.equal(Embedding().finish(Scaling())(answers), answers)
    assert Embedding().ending(np.full((2, 3), -1.0), ()) is None


@pytest.mark.parametrize("model", ["{arch: mlp}", "{arch: 'nets:Net'}"])
def test_there_is_nothing_to_train_on(tmp_path: Path, model: str) -> None:
    (tmp_path / "e.yaml").write_text(f"{HEAD}train: {{model: {model}}}\n")
    with pytest.raises(RecipeError) as refusal:
        assemble(load_recipe(tmp_path / "e.yaml"))
    (problem,) = refusal.value.problems
    assert (problem.line, problem.path) == (6, "train")
    assert problem.message == "there is nothing to learn from: prepare holds data for embedding"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("split: {train: 0.5, validation: 0.25, test: 0.25, stratify: true}", "split.stratify needs classes"),
        ("split: {column: side}", "unknown key"),
        ("label: side", "unknown key"),
    ],
)
def test_its_data_have_no_classes_and_no_columns(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(f"{HEAD}  {line}\n")
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "e.yaml")


def test_a_classifiers_logits_lack_a_softmax_and_its_probabilities_lack_nothing() -> None:
    logits = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    task, labels = ImageClassification(), ("a", "b", "c")
    assert task.ending(logits, labels) == "softmax"
    assert task.ending(np.abs(logits), labels) == "softmax"
    assert task.ending(probabilities.astype(np.float16), labels) is None
    with pytest.raises(DataError, match=r"the shape \[3\] for every row, the data has 2 classes"):
        task.ending(logits, labels[:2])


def test_a_regressions_numbers_are_flattened() -> None:
    assert Regression().ending(np.ones((4, 1)), ()) == "flatten"
    assert Regression().ending(np.ones(4), ()) is None
    with pytest.raises(DataError, match=r"the shape \[2\] for every row, not with one number"):
        Regression().ending(np.ones((4, 2)), ())
