"""The task of the next token: what is kept of answers, figures with intervals, and what is learnt by."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.errors import DataError, StepFailed
from mlctl.metrics.language_modeling import window_totals
from mlctl.recipe.train import FitSettings
from mlctl.tasks.language_modeling import LanguageModeling
from mlctl.tasks.next_token import NextToken
from mlctl.tasks.pairing import metric_difference
from mlctl.tasks.table import TASKS

CHARACTERS = np.array([1, 2, 0, 3], np.int32)
FIELD = Field("tokens", "uint8", (6,))
DATA = PreparedData(
    DataDescription(
        task="language-modeling",
        inputs=(FIELD,),
        input_scaling=(Scaling(),),
        target=Field("next", "uint8", (6,)),
        target_scaling=Scaling(),
        labels=(),
        rows={},
        vocabulary=4,
        tokens={},
    ),
    (),
    CHARACTERS,
)
METRICS = ("bits_per_character", "perplexity", "loss", "accuracy")


def answers(seed: int, count: int, skill: float = 1.0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Logits [count, 6, 4], better with more skill, and the tokens that come next [count, 6]."""
    dice = np.random.default_rng(seed)
    targets = dice.integers(0, 4, (count, 6)).astype(np.uint8)
    noise = np.random.default_rng(seed + 100).normal(0, 1, (count, 6, 4))
    return (noise + skill * np.eye(4)[targets]).astype(np.float32), targets


def test_it_is_in_the_table() -> None:
    task = TASKS["language-modeling"]
    assert (task.outputs(DATA.description), task.input_dtype(FIELD), task.output_name) == (4, "int64", "logits")
    assert task.open_dimensions == {("tokens", 1): "sequence", ("logits", 1): "sequence"}
    assert torch.equal(task.finish(Scaling())(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


def test_what_is_kept_is_small_and_enough() -> None:
    logits, targets = answers(0, 50)
    kept = LanguageModeling().kept(logits, targets, DATA)
    assert (kept.shape, kept.dtype.name) == ((50, 4), "float64")
    beside = LanguageModeling().kept_targets(targets)
    assert (beside.shape, beside.nbytes) == ((50, 0), 0)
    found = {each.name: each for each in LanguageModeling().measure(METRICS, kept, beside, 0.95)}
    nats = -np.take_along_axis(log_softmax(logits.astype(np.float64), axis=2), targets[..., None].astype(int), axis=2)
    loss = float(nats.mean())
    characters = int(CHARACTERS[targets].sum())
    assert found["loss"].value == pytest.approx(loss, abs=1e-6)
    assert found["perplexity"].value == pytest.approx(math.exp(loss), rel=1e-5)
    assert found["bits_per_character"].value == pytest.approx(float(nats.sum()) / math.log(2) / characters, rel=1e-6)
    assert found["accuracy"].value == pytest.approx((logits.argmax(axis=2) == targets).mean())
    assert all(each.low < each.value < each.high for each in found.values())


def test_answers_of_another_shape_are_refused() -> None:
    logits, targets = answers(0, 3)
    for wrong in (logits[:, -1], logits[:, :5], logits[..., :3]):
        with pytest.raises(StepFailed, match=r"the model answers 3 windows with the shape \[3, .*, not \[3, 6, 4\]"):
            LanguageModeling().kept(wrong, targets, DATA)
    with pytest.raises(DataError, match=r"the shape \[4\] for every row, not with logits"):
        LanguageModeling().ending(np.ones((3, 4)), ())
    assert LanguageModeling().ending(logits, ()) is None


def test_intervals_are_of_windows_and_not_of_tokens() -> None:
    """Windows whose tokens are all right or all wrong: as many different answers as windows."""
    targets = np.zeros((100, 50), np.uint8)
    logits = np.zeros((100, 50, 4), np.float32)
    logits[:30, :, 0], logits[30:, :, 1] = 5, 5
    kept = LanguageModeling().kept(logits, targets, DATA)
    (found,) = LanguageModeling().measure(("accuracy",), kept, LanguageModeling().kept_targets(targets), 0.95)
    assert found.value == 0.3
    # 1.96 deviations of a share of 0.3 over 100 windows; 5,000 tokens would give a seventh of that.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * math.sqrt(0.3 * 0.7 / 100), rel=0.1)


def test_differences_are_paired_window_by_window() -> None:
    task, targets = LanguageModeling(), answers(5, 200)[1]
    better, worse = (task.kept(answers(5, 200, skill)[0], targets, DATA) for skill in (1.5, 1.4))
    found = metric_difference(task, "bits_per_character", (better, worse), task.kept_targets(targets), 0.95)
    alone = [task.measure(("bits_per_character",), each, targets, 0.95)[0] for each in (better, worse)]
    assert found.estimate == pytest.approx(alone[0].value - alone[1].value)
    assert found.interval.low < found.estimate < found.interval.high < 0
    assert found.interval.high - found.interval.low < 0.2 * (alone[0].high - alone[0].low)
    assert found.test is None


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_every_place(smoothing: float) -> None:
    logits, targets = answers(1, 5)
    objective = NextToken(CHARACTERS, smoothing)
    logs = log_softmax(logits.astype(np.float64), axis=2)
    labels = (1 - smoothing) * np.eye(4)[targets] + smoothing / 4
    found = objective.loss(torch.from_numpy(logits), torch.from_numpy(targets.astype(np.int64)))
    assert float(found) == pytest.approx(float(-(labels * logs).sum(axis=2).mean()), abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_what_is_watched_is_what_an_evaluation_finds(size: int) -> None:
    logits, targets = answers(2, 20)
    objective = LanguageModeling().objective(DATA, FitSettings(label_smoothing=0.3))
    totals = [
        objective.totals(
            torch.from_numpy(logits[at : at + size]), torch.from_numpy(targets[at : at + size].astype(np.int64))
        )
        for at in range(0, 20, size)
    ]
    assert totals[0].dtype == torch.float64
    names = [name for name, _ in objective.watched]
    found = dict(zip(names, objective.figures(torch.stack(totals).sum(0), 20), strict=True))
    kept = window_totals(logits, targets, CHARACTERS)
    expected = LanguageModeling().measure(tuple(names), kept, LanguageModeling().kept_targets(targets), 0.95)
    assert found == pytest.approx({each.name: each.value for each in expected}, rel=1e-6)


def test_sums_are_the_same_however_they_are_cut_into_batches() -> None:
    logits, targets = answers(3, 64)
    objective = NextToken(CHARACTERS)

    def summed(size: int) -> list[float]:
        cuts = range(size, 64, size)
        parts = zip(np.split(logits, cuts), np.split(targets.astype(np.int64), cuts), strict=True)
        totals = [objective.totals(torch.from_numpy(each), torch.from_numpy(wanted)) for each, wanted in parts]
        return [float(each) for each in torch.stack(totals).sum(0)]

    # 384 float32 losses added in float64, in another order: nothing of float32's 6e-8 is left in the sum.
    assert summed(1) == pytest.approx(summed(64), rel=1e-13)


def test_of_no_sample_there_is_no_figure() -> None:
    assert all(math.isnan(each) for each in NextToken(CHARACTERS).figures(torch.zeros(4), 0))
