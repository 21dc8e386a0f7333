"""What training minimises and watches, against float64 written out by hand."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData, Split
from mlctl.errors import UsageError
from mlctl.recipe.train import FitSettings
from mlctl.tasks.image_classification import ImageClassification
from mlctl.tasks.objective import Objective
from mlctl.tasks.regression import Regression

IMAGES = DataDescription(
    task="image-classification",
    inputs=(Field("image", "uint8", (1, 2, 2)),),
    input_scaling=(Scaling(255.0),),
    target=Field("label", "int64", ()),
    target_scaling=Scaling(),
    labels=("cat", "dog", "owl"),
    rows={"train": 8, "validation": 4, "test": 4},
)
HOUSES = DataDescription(
    task="regression",
    inputs=(Field("features", "float32", (2,), ("rooms", "age")),),
    input_scaling=(Scaling(),),
    target=Field("price", "float32", ()),
    target_scaling=Scaling(1000.0, (5.0,), (2.0,)),
    labels=(),
    rows={"train": 8, "validation": 4, "test": 4},
)
TARGETS = np.array([0, 0, 0, 0, 0, 1, 1, 2])


def data_of(description: DataDescription, targets: npt.NDArray[np.generic] = TARGETS) -> PreparedData:
    """Eight rows to learn from, of classes 0, 1 and 2 unless others are given."""
    split = Split((np.zeros((len(targets), 1), np.uint8),), targets, np.arange(len(targets)))
    return PreparedData(description, (split, split, split))


def objective_of(description: DataDescription, **settings: object) -> Objective:
    task = Regression() if description.task == "regression" else ImageClassification()
    return task.objective(data_of(description), FitSettings.model_validate(settings))


MEAN, DEVIATION = 5000.0, 2000.0  # of the price, in its own unit

Floats = npt.NDArray[np.float64]
LOGITS = st.integers(1, 12).flatmap(lambda rows: arrays(np.float32, (rows, 3), elements=st.floats(-30, 30, width=32)))
OUTPUTS = st.integers(1, 12).flatmap(lambda rows: arrays(np.float32, (rows, 1), elements=st.floats(-4, 4, width=32)))


def cross_entropies(logits: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Floats:
    """-log softmax of the true class of every row, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs: Floats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(classes)), classes]
    return logs


@settings(max_examples=50)
@given(logits=LOGITS, seed=st.integers(0, 99))
def test_cross_entropy_and_accuracy_are_those_of_float64(logits: npt.NDArray[np.float32], seed: int) -> None:
    classes = np.random.default_rng(seed).integers(0, 3, len(logits))
    objective = objective_of(IMAGES)
    outputs, targets = torch.from_numpy(logits), torch.from_numpy(classes)
    expected = float(cross_entropies(logits, classes).mean())
    loss, accuracy = objective.figures(objective.totals(outputs, targets), len(classes))
    # Losses up to 60 in float32: their last digit is worth 4e-6, and a dozen of them are added.
    assert float(objective.loss(outputs, targets)) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert accuracy == pytest.approx(float((logits.argmax(axis=1) == classes).mean()), abs=1e-15)


@settings(max_examples=50)
@given(outputs=OUTPUTS, seed=st.integers(0, 99))
def test_squared_error_is_in_deviations_and_its_figures_in_the_targets_unit(
    outputs: npt.NDArray[np.float32], seed: int
) -> None:
    prices = np.random.default_rng(seed).normal(MEAN, DEVIATION, len(outputs)).astype(np.float32)
    objective = objective_of(HOUSES)
    raw, targets = torch.from_numpy(outputs), torch.from_numpy(prices)
    errors = outputs[:, 0].astype(np.float64) * DEVIATION + MEAN - prices
    expected = float((errors**2).mean())
    loss, rmse, mae = objective.figures(objective.totals(raw, targets), len(prices))
    # Prices near 5,000 in float32 are known to 5e-4, which is 2.5e-7 deviations.
    assert float(objective.loss(raw, targets)) == pytest.approx(expected / DEVIATION**2, rel=1e-5, abs=1e-6)
    assert loss == pytest.approx(expected / DEVIATION**2, rel=1e-5, abs=1e-6)
    assert rmse == pytest.approx(expected**0.5, rel=1e-5, abs=2e-3)
    assert mae == pytest.approx(float(np.abs(errors).mean()), rel=1e-5, abs=2e-3)


def both() -> list[tuple[Objective, torch.Tensor, torch.Tensor]]:
    """Each objective with the outputs and targets of 23 samples."""
    generator = torch.Generator().manual_seed(4)
    classes = torch.randint(0, 3, (23,), generator=generator)
    prices = torch.randn(23, generator=generator) * DEVIATION + MEAN
    return [
        (objective_of(IMAGES), torch.randn(23, 3, generator=generator), classes),
        (objective_of(HOUSES), torch.randn(23, 1, generator=generator), prices),
    ]


@pytest.mark.parametrize(("objective", "outputs", "targets"), both(), ids=["classification", "regression"])
@pytest.mark.parametrize("size", [1, 2, 10, 23])
def test_batches_of_any_size_come_to_the_figures_of_the_whole(
    objective: Objective, outputs: torch.Tensor, targets: torch.Tensor, size: int
) -> None:
    batches = [objective.totals(outputs[at : at + size], targets[at : at + size]) for at in range(0, 23, size)]
    together = torch.stack(batches).sum(dim=0)
    whole = objective.figures(objective.totals(outputs, targets), 23)
    assert together.dtype == torch.float64
    # Only the sum within a batch is taken in float32, and there for cross entropy alone.
    assert objective.figures(together, 23) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("objective", "outputs", "targets"), both(), ids=["classification", "regression"])
def test_the_first_watched_figure_is_the_loss_and_less_of_it_is_better(
    objective: Objective, outputs: torch.Tensor, targets: torch.Tensor
) -> None:
    assert objective.watched[0] == ("loss", "lower")
    figures = objective.figures(objective.totals(outputs, targets), len(targets))
    assert len(figures) == len(objective.watched)
    assert figures[0] == pytest.approx(float(objective.loss(outputs, targets)), rel=1e-5)


@pytest.mark.parametrize(("objective", "outputs", "targets"), both(), ids=["classification", "regression"])
def test_no_samples_have_no_figures(objective: Objective, outputs: torch.Tensor, targets: torch.Tensor) -> None:
    nothing = objective.totals(outputs[:0], targets[:0])
    assert all(np.isnan(figure) for figure in objective.figures(nothing, 0))


@pytest.mark.parametrize(("objective", "outputs", "targets"), both(), ids=["classification", "regression"])
def test_totals_of_bfloat16_outputs_are_not_taken_in_bfloat16(
    objective: Objective, outputs: torch.Tensor, targets: torch.Tensor
) -> None:
    coarse = outputs.bfloat16()
    expected = objective.figures(objective.totals(coarse.float(), targets), 23)
    assert objective.figures(objective.totals(coarse, targets), 23) == expected


def test_a_target_that_is_not_standardized_is_learnt_as_it_is() -> None:
    plain = replace(HOUSES, target_scaling=Scaling())
    objective = objective_of(plain)
    raw, targets = torch.tensor([[1.0], [4.0]]), torch.tensor([3.0, 1.0])
    assert float(objective.loss(raw, targets)) == pytest.approx((4 + 9) / 2)
    assert objective.figures(objective.totals(raw, targets), 2) == pytest.approx((6.5, 6.5**0.5, 2.5))


@settings(max_examples=50)
@given(logits=LOGITS, seed=st.integers(0, 99), smoothing=st.floats(0, 0.9))
def test_smoothed_labels_are_those_of_their_definition(
    logits: npt.NDArray[np.float32], seed: int, smoothing: float
) -> None:
    """Szegedy et al. 2016, section 7: a share of every label is spread over all classes, its own among them."""
    classes = np.random.default_rng(seed).integers(0, 3, len(logits))
    each = [cross_entropies(logits, np.full(len(logits), number)) for number in range(3)]
    truth = (1 - smoothing) * np.eye(3)[classes] + smoothing / 3
    expected = float((truth * np.stack(each, 1)).sum(1).mean())
    objective = objective_of(IMAGES, label_smoothing=smoothing)
    outputs, targets = torch.from_numpy(logits), torch.from_numpy(classes)
    assert float(objective.loss(outputs, targets)) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    # What is watched is the loss of the true class alone, whatever is learnt by.
    plain = objective_of(IMAGES)
    assert torch.equal(objective.totals(outputs, targets), plain.totals(outputs, targets))


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ("balanced", (8 / 15, 8 / 6, 8 / 3)),  # of 5, 2 and 1 of 8 rows
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((2.0, 4.0, 6.0), (2 / 3, 4 / 3, 2.0)),  # 10 + 8 + 6 over 8 rows is 3
    ],
)
def test_a_samples_loss_counts_as_much_as_its_class(asked: object, weights: tuple[float, ...]) -> None:
    objective = objective_of(IMAGES, class_weights=asked, label_smoothing=0.2)
    plain = objective_of(IMAGES, label_smoothing=0.2)
    outputs = torch.randn(23, 3, generator=torch.Generator().manual_seed(4))
    targets = torch.arange(23) % 3
    each = [float(plain.loss(outputs[[row]], targets[[row]])) for row in range(23)]
    expected = sum(weights[row % 3] * loss for row, loss in enumerate(each)) / 23
    assert float(objective.loss(outputs, targets)) == pytest.approx(expected, rel=1e-5)
    assert float(np.take(weights, TARGETS).mean()) == pytest.approx(1.0)
    assert torch.equal(objective.totals(outputs, targets), plain.totals(outputs, targets))


@settings(max_examples=30)
@given(logits=LOGITS, cut=st.integers(1, 11), seed=st.integers(0, 99))
def test_losses_of_parts_by_their_shares_are_that_of_the_whole(
    logits: npt.NDArray[np.float32], cut: int, seed: int
) -> None:
    targets = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, len(logits)))
    outputs, cut = torch.from_numpy(logits), min(cut, len(logits) - 1)
    objective = objective_of(IMAGES, class_weights="balanced", label_smoothing=0.1)
    whole = float(objective.loss(outputs, targets))
    parts = [(outputs[:cut], targets[:cut]), (outputs[cut:], targets[cut:])]
    joined = sum(len(targets) * float(objective.loss(outputs, targets)) for outputs, targets in parts if len(targets))
    assert joined / len(logits) == pytest.approx(whole, rel=1e-5, abs=1e-5)


def test_a_class_that_nobody_is_of_has_no_weight_and_takes_none_from_others() -> None:
    data = data_of(IMAGES, np.array([0, 0, 0, 2]))
    objective = ImageClassification().objective(data, FitSettings(class_weights="balanced"))
    outputs = torch.zeros(4, 3)
    assert float(objective.loss(outputs, torch.tensor([0, 0, 0, 2]))) == pytest.approx(float(np.log(3)))
    assert float(objective.loss(outputs, torch.tensor([1, 1, 1, 1]))) == 0.0


def test_as_many_weights_as_labels_are_wanted() -> None:
    with pytest.raises(UsageError) as refusal:
        objective_of(IMAGES, class_weights=(1.0, 2.0))
    assert refusal.value.what == "class_weights has 2 numbers, and the data 3 labels: 'cat', 'dog', 'owl'"
    assert "or `balanced`" in refusal.value.next
    many = replace(IMAGES, labels=tuple(map(str, range(99))))
    with pytest.raises(UsageError, match=r"'0', .*, '9' and 89 more"):
        objective_of(many, class_weights=(1.0, 2.0))
