"""The intervals behind gates, computed again from the answers themselves."""

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from mlctl.engine.figures import Figure, FigureName, Kind
from mlctl.engine.gates import Difference, Gate, GateResult, Outcome, judge
from mlctl.metrics.evaluation_files import ANSWERS_FILE, EvaluationFiles, EvaluationIndex
from mlctl.metrics.paired import conditional_interval, tango_interval
from mlctl.metrics.resampling import draws
from mlctl.stages.comparison import paired_difference
from mlctl.tasks.table import TASKS

Floats = npt.NDArray[np.float64]
SAMPLES = 150
CLASSIFICATION = ("accuracy", "top_2_accuracy", "f1", "log_loss")
REGRESSION = ("rmse", "mae")


def evaluation(
    folder: Path, task: str, targets: npt.NDArray[Any], answers: dict[str, npt.NDArray[Any]], times: int = 1
) -> Path:
    """An evaluation's folder, as eval leaves it; the samples are there `times` times over."""
    metrics = CLASSIFICATION if task == "image-classification" else REGRESSION
    index = EvaluationIndex(task, "test", tuple(answers), metrics, (1, 8))
    index.save(folder)
    files = EvaluationFiles(folder, index)
    files.save_targets(np.concatenate([targets] * times))
    for name, found in answers.items():
        (folder / name).mkdir(exist_ok=True)
        np.save(folder / name / ANSWERS_FILE, np.concatenate([found] * times))
    dice = np.random.default_rng(5)
    files.save_seconds(dice.gamma(9, 1e-4, (len(answers), 2, 40)) * np.linspace(1, 1.3, len(answers))[:, None, None])
    return folder


def classified(seed: int, skills: tuple[float, float]) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
    """True classes, and probabilities [150, 3] of the models `a` and `b` with these skills."""
    dice = np.random.default_rng(seed)
    targets = dice.integers(0, 3, SAMPLES)
    shared = dice.normal(0, 1, (SAMPLES, 3))

    def answers(skill: float) -> npt.NDArray[np.float32]:
        shares = np.exp(shared + dice.normal(0, 1, (SAMPLES, 3)) + skill * np.eye(3)[targets])
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)

    return targets, {"a": answers(skills[0]), "b": answers(skills[1])}


def predicted(seed: int) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
    """True numbers, and predictions [150] of the models `a` and `b`, the second a little worse."""
    dice = np.random.default_rng(seed)
    targets = dice.normal(0, 3, SAMPLES)
    errors = dice.normal(0, 1, (2, SAMPLES))
    return targets, {"a": targets + errors[0], "b": targets + 0.6 * errors[0] + 0.95 * errors[1]}


def difference(text: str, folder: Path, confidence: float | None = None) -> Difference:
    """The difference of the gate's sides."""
    found = paired_difference(Gate.of(text, confidence), {"eval": folder})
    assert found is not None
    return found


@pytest.mark.parametrize("confidence", [None, 0.8])
@pytest.mark.parametrize(
    ("text", "sign"),
    [("eval[b].accuracy >= 0.9", 1), ("eval[b].accuracy - 0.9 >= 0", 1), ("0.9 <= eval[b].accuracy", -1)],
)
def test_a_rate_against_a_number_has_wilsons_interval(
    tmp_path: Path, text: str, sign: int, confidence: float | None
) -> None:
    targets, answers = classified(1, (3, 2))
    found = difference(text, evaluation(tmp_path, "image-classification", targets, answers), confidence)
    right = int((answers["b"].argmax(axis=1) == targets).sum())
    wilson = binomtest(right, SAMPLES).proportion_ci(confidence or 0.95, method="wilson")
    expected = sorted((sign * (wilson.low - 0.9), sign * (wilson.high - 0.9)))
    assert [found.low, found.high] == pytest.approx(expected, abs=1e-12)  # two float64 ways to the same formula
    assert (found.method, found.samples, found.p_value) == ("wilson", SAMPLES, None)
    assert found.confidence == (confidence or 0.95)


@pytest.mark.parametrize("metric", ["accuracy", "top_2_accuracy"])
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_two_rates_have_tangos_interval_and_mcnemars_test(tmp_path: Path, metric: str, margin: float) -> None:
    targets, answers = classified(2, (1.5, 1.0))
    folder = evaluation(tmp_path, "image-classification", targets, answers)
    found = difference(f"eval[b].{metric} >= eval[a].{metric} - {margin}", folder, 0.9)
    top = 1 if metric == "accuracy" else 2
    order = {name: np.argsort(-each, axis=1)[:, :top] for name, each in answers.items()}
    right = {name: (each == targets[:, None]).any(axis=1) for name, each in order.items()}
    only_b, only_a = int((right["b"] & ~right["a"]).sum()), int((right["a"] & ~right["b"]).sum())
    assert only_a > 0 < only_b
    tango = tango_interval(only_b, only_a, SAMPLES, 0.9)
    exact = conditional_interval(only_b, only_a, SAMPLES, 0.9)
    expected = min(tango.low, exact.low) + margin, max(tango.high, exact.high) + margin
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.p_value == pytest.approx(binomtest(only_b, only_a + only_b).pvalue)
    assert (found.method, found.samples) == ("mcnemar-tango", SAMPLES)


def every_draw(samples: int) -> npt.NDArray[np.int64]:
    """All numbers of samples of the bootstrap, [2000, samples]."""
    return np.concatenate(list(draws(samples, seed=0)))


@pytest.mark.parametrize(
    ("text", "weight"), [("eval[b].rmse <= 1.05 * eval[a].rmse", 1.05), ("eval[b].rmse <= eval[a].rmse", 1.0)]
)
def test_differences_of_errors_are_bootstrapped_in_pairs(tmp_path: Path, text: str, weight: float) -> None:
    targets, answers = predicted(3)
    found = difference(text, evaluation(tmp_path, "regression", targets, answers), 0.9)
    rows = every_draw(SAMPLES)
    rmse = {name: np.sqrt(((each - targets) ** 2)[rows].mean(axis=1)) for name, each in answers.items()}
    expected = np.quantile(rmse["b"] - weight * rmse["a"], [0.05, 0.95])
    assert [found.low, found.high] == pytest.approx(expected, rel=1e-9)  # the same draws in float64
    assert (found.method, found.samples) == ("bootstrap", SAMPLES)


def test_log_loss_and_f1_are_bootstrapped_in_pairs(tmp_path: Path) -> None:
    targets, answers = classified(4, (2, 1))
    folder = evaluation(tmp_path, "image-classification", targets, answers)
    rows = every_draw(SAMPLES)
    losses = {n: -np.log(each.astype(np.float64)[np.arange(SAMPLES), targets]) for n, each in answers.items()}
    of_loss = difference("eval[b].log_loss <= eval[a].log_loss + 0.1", folder, 0.9)
    expected = np.quantile((losses["b"] - losses["a"])[rows].mean(axis=1) - 0.1, [0.05, 0.95])
    assert [of_loss.low, of_loss.high] == pytest.approx(expected, rel=1e-5)  # logarithms of float32, good to 6e-8
    chosen = {name: each.argmax(axis=1) for name, each in answers.items()}
    of_f1 = difference("eval[b].f1 >= eval[a].f1", folder, 0.9)
    f1 = [
        f1_score(targets[each], chosen["b"][each], average="macro")
        - f1_score(targets[each], chosen["a"][each], average="macro")
        for each in rows[:400]
    ]
    low, high = np.quantile(f1, [0.05, 0.95])
    # 400 of the 2,000 draws know their own 5 % quantile to about a tenth of the interval's width.
    assert [of_f1.low, of_f1.high] == pytest.approx([low, high], abs=0.1 * (high - low))


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("eval[b].p50_batch_8 <= 1.1 * eval[a].p50_batch_8", ((1, 1, 50, 1.0), (0, 1, 50, 1.1))),
        ("eval[b].p50_batch_1 <= eval[a].p50_batch_8", ((1, 0, 50, 1.0), (0, 1, 50, 1.0))),
    ],
)
def test_latencies_are_bootstrapped_over_rounds(tmp_path: Path, text: str, sides: Any) -> None:
    targets, answers = predicted(3)
    folder = evaluation(tmp_path, "regression", targets, answers)
    found = difference(text, folder, 0.9)
    seconds: Floats = np.load(folder / "latency.npy")
    rows = every_draw(40)
    left, right = (
        weight * np.percentile(seconds[model, batch][rows] * 1000, percentile, axis=1)
        for model, batch, percentile, weight in sides
    )
    assert [found.low, found.high] == pytest.approx(np.quantile(left - right, [0.05, 0.95]), rel=1e-9)
    assert (found.method, found.samples) == ("bootstrap", 40)


@pytest.mark.parametrize(
    "text",
    [
        "eval[b].bytes <= eval[a].bytes",
        "eval[b].parameters <= 10",
        "eval[a].rmse <= 0.1 * eval[a].bytes",
        "eval[a].rmse <= eval[a].p50_batch_1",
        "eval[a].rmse <= other[a].rmse",
        "export.parity <= 1",
        "eval[a].p99_batch_1 <= 1",
        "eval[a].rmse / (eval[a].rmse - eval[a].rmse) <= 1",
    ],
)
def test_what_does_not_vary_from_sample_to_sample_has_no_interval(tmp_path: Path, text: str) -> None:
    targets, answers = predicted(3)
    folder = evaluation(tmp_path, "regression", targets, answers)
    assert paired_difference(Gate.of(text), {"eval": folder, "other": folder, "export": folder}) is None


def test_a_step_that_was_not_made_has_no_interval() -> None:
    assert paired_difference(Gate.of("eval[a].rmse <= 1"), {}) is None


def judged(text: str, confidence: float, folder: Path) -> GateResult:
    """What becomes of the gate with the figures that the folder's answers come to."""
    gate = Gate.of(text, confidence)
    files = EvaluationFiles.open(folder)
    task = TASKS[files.index.task]
    figures = {
        FigureName("eval", model, each.name): Figure(each.name, Kind.METRIC, each.value, model=model)
        for model in files.index.models
        for each in task.measure(files.index.metrics, files.answers(model), files.targets, 0.95)
    }
    return judge(gate, figures, lambda each: paired_difference(each, {"eval": folder}))


@pytest.mark.parametrize(
    ("text", "outcome", "code"),
    [
        ("eval[b].accuracy >= 0.3", Outcome.PASSED, 0),
        ("eval[b].accuracy >= 0.99", Outcome.FAILED, 20),
        ("eval[b].accuracy >= 0.66", Outcome.INCONCLUSIVE, 25),
        ("eval[b].accuracy >= eval[a].accuracy - 0.5", Outcome.PASSED, 0),
        ("eval[b].accuracy >= eval[a].accuracy", Outcome.FAILED, 20),
        ("eval[b].log_loss <= eval[a].log_loss", Outcome.FAILED, 20),
        ("eval[a].log_loss <= eval[b].log_loss", Outcome.PASSED, 0),
    ],
)
def test_a_gate_with_a_confidence_passes_fails_or_is_inconclusive(
    tmp_path: Path, text: str, outcome: Outcome, code: int
) -> None:
    folder = evaluation(tmp_path, "image-classification", *classified(6, (4, 1.5)))
    found = judged(text, 0.95, folder)
    assert (found.outcome, found.exit_code) == (outcome, code)
    assert ("more samples would decide" in found.note) == (outcome is Outcome.INCONCLUSIVE)


@pytest.mark.parametrize("side", [-0.4, 0.4])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(
    ("task", "left", "right", "symbol"),
    [
        ("image-classification", "eval[b].accuracy", "0", ">="),
        ("image-classification", "eval[b].accuracy", "eval[a].accuracy", ">="),
        ("image-classification", "eval[b].f1", "eval[a].f1", ">="),
        ("regression", "eval[b].rmse", "1.02 * eval[a].rmse", "<="),
    ],
    ids=["rate", "rates", "f1", "rmse"],
)
def test_as_many_more_samples_as_are_asked_for_do_decide(
    tmp_path: Path, task: str, left: str, right: str, symbol: str, confidence: float, side: float
) -> None:
    """The same samples again and again are what more samples look like when the difference stays what it is."""
    targets, answers = predicted(13) if task == "regression" else classified(12, (1.2, 1.1))
    folder = evaluation(tmp_path, task, targets, answers)
    plain = difference(f"{left} {symbol} {right}", folder, confidence)
    # A margin of which the difference is 0.4 of half an interval away: undecided, whatever the samples are.
    center, half = (plain.high + plain.low) / 2, (plain.high - plain.low) / 2
    text = f"{left} {symbol} {right} + ({center + side * half:.9f})"
    first = judged(text, confidence, folder)
    assert first.outcome is Outcome.INCONCLUSIVE
    assert first.difference is not None
    more = first.difference.more_samples
    assert more is not None
    assert more > SAMPLES  # 0.4 of the width takes 6 times the samples
    # The ends of 2,000 draws are known to some 5 % of the interval; squared, that is a tenth of the samples.
    slack = 1.25 if first.difference.method == "bootstrap" else 1.0
    times = ceil(slack * (SAMPLES + more) / SAMPLES)
    again = judged(text, confidence, evaluation(tmp_path, task, targets, answers, times))
    assert first.left is not None
    assert first.right is not None
    holds = Gate.of(text).comparison.holds(first.left, first.right)
    assert again.outcome is (Outcome.PASSED if holds else Outcome.FAILED)


def test_two_equal_models_are_never_decided(tmp_path: Path) -> None:
    targets, answers = classified(7, (2, 2))
    folder = evaluation(tmp_path, "image-classification", targets, {"a": answers["a"], "b": answers["a"]})
    found = judged("eval[b].accuracy > eval[a].accuracy", 0.95, folder)
    assert (found.outcome, found.exit_code) == (Outcome.INCONCLUSIVE, 25)
    assert found.note == "no number of samples would decide"
