"""The work of `mlctl train --find-lr`: every train step's range test, drawn."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

from mlctl import __version__
from mlctl.data.prepared import PreparedData
from mlctl.engine.failures import system_refusals
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Failure, Outcome, StepResult
from mlctl.errors import MachineError, MlctlError
from mlctl.events import Note, StepAborted, StepFinished, StepStarted, Tell
from mlctl.stages.curve_image import curve_png
from mlctl.stages.range_tests import RateCurve, RateQuestion, RateVerdict
from mlctl.tasks.table import TASKS
from mlctl.training.batches import Samples
from mlctl.training.devices import resolve_device
from mlctl.training.failures import named_failures
from mlctl.training.finding import Found, find_learning_rate
from mlctl.training.own_networks import named_mistakes, require_answers
from mlctl.training.targets import require_learnable
from mlctl.training.trained import fresh_model, model_config, use_threads

SUGGESTED = "suggested_lr"


def find_rates(
    recipe: Path, questions: tuple[RateQuestion, ...], seed: int, options: RunOptions, tell: Tell
) -> RateVerdict:
    """A curve for every question, in their order, up to the first that cannot be answered.

    Nothing is written but the images. Each step of the verdict has the suggestion as a figure, where there is one.
    """
    results: list[StepResult] = []
    curves: list[RateCurve] = []
    failures: tuple[Failure, ...] = ()
    for question in questions:
        began = monotonic()
        tell(StepStarted(question.step, "find", ()))
        try:
            with system_refusals(question.image):
                curve = _curve(question, _found(recipe, question, seed, options, tell))
                write_image(curve_png(curve, recipe.name), question.image)
        except MlctlError as error:
            tell(StepAborted(question.step, error.what))
            failures = (Failure.of(error, question.step),)
            break
        curves.append(curve)
        results.append(_result(curve, monotonic() - began))
        tell(StepFinished(question.step, results[-1].seconds))
    return RateVerdict(__version__, "train", str(recipe), tuple(results), (), failures, tuple(curves))


def _found(recipe: Path, question: RateQuestion, seed: int, options: RunOptions, tell: Tell) -> Found:
    use_threads(options.threads)
    device = resolve_device(options.device)
    data = PreparedData.open(question.data)
    task = TASKS[data.description.task]
    config = model_config(task, question.settings.model, data.description)
    split = data.split("train")
    samples = Samples(split.inputs, split.targets, split.rows, split.stream)
    require_learnable(samples, config.outputs, "train")
    with named_failures(device):
        model = fresh_model(config, seed, recipe.parent if options.allow_code else None)
    require_answers(model, config, split.inputs)
    objective = task.objective(data, question.settings)
    if question.settings.compile:
        tell(Note("`compile` is left out: a hundred steps are over before a network is built"))
    with named_mistakes(config):
        return find_learning_rate(model, samples, objective, question.settings, seed=seed, device=device, tell=tell)


def _curve(question: RateQuestion, found: Found) -> RateCurve:
    optimizer = question.settings.optimizer
    return RateCurve(
        step=question.step,
        optimizer=optimizer.name,
        configured=optimizer.lr,
        suggestion=found.suggestion,
        reason=found.reason,
        image=str(question.image),
        rates=found.rates,
        losses=found.losses,
        smoothed=found.smoothed,
    )


def write_image(png: bytes, image: Path) -> None:
    """Write the file whole or not at all. Raises MachineError where it cannot be."""
    aside = image.with_name(f"{image.name}.{os.getpid()}")
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(png)
        aside.replace(image)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise MachineError(
            f"the curve cannot be written ({error.strerror})", where=image, next="name another file with `--output`"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _result(curve: RateCurve, seconds: float) -> StepResult:
    figures = () if curve.suggestion is None else (Figure(SUGGESTED, Kind.METRIC, curve.suggestion),)
    choices = {"reason": curve.reason, "image": curve.image}
    return StepResult(curve.step, "train", Outcome.RAN, "", None, seconds, (), figures, choices)
