"""What every layer's units are worth: shares of them are taken out of one layer at a time, and nothing learns again."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import floor
from pathlib import Path
from time import monotonic

from mlctl import __version__
from mlctl.compression.pruning.batch_statistics import take_batch_statistics
from mlctl.compression.pruning.dependencies import Dependencies, UnitGroup, dependencies, structure_of
from mlctl.compression.pruning.importance import LOOKS_AT_ROWS, importance
from mlctl.compression.pruning.protection import is_protected, protected_layers
from mlctl.compression.pruning.prunable_weights import PROTECTED
from mlctl.compression.pruning.removal_order import RemovalOrder
from mlctl.compression.pruning.unit_weights import Scores
from mlctl.data.prepared import PreparedData
from mlctl.engine.failures import system_refusals
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Failure, Outcome, StepResult
from mlctl.errors import MlctlError
from mlctl.events import Progress, StepAborted, StepFinished, StepStarted, Tell
from mlctl.models.complete import CompleteModel
from mlctl.models.structure import restructured
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.stages.cutting_methods import Ground
from mlctl.stages.finding import write_image
from mlctl.stages.layer_curves import SHARES, LayerCurve, LayerCurves, LayerQuestion, LayerVerdict
from mlctl.stages.layers_image import layers_png
from mlctl.tasks.table import TASKS
from mlctl.training.trained import example_of, stored_model, use_threads
from mlctl.training.validation import Validation

ROWS = 2048
"""Rows of the validation split that a network is measured on, at most."""


def layer_sensitivity(
    recipe: Path, questions: tuple[LayerQuestion, ...], seed: int, options: RunOptions, tell: Tell
) -> LayerVerdict:
    """Curves for every question, drawn into its image; a failure ends them."""
    curves: list[LayerCurves] = []
    results: list[StepResult] = []
    failures: tuple[Failure, ...] = ()
    for question in questions:
        began = monotonic()
        tell(StepStarted(question.step, "look", ()))
        try:
            with system_refusals(question.image):
                found = _Layers(question, seed, options, recipe.parent, tell).curves()
                write_image(layers_png(found, recipe.name), question.image)
        except MlctlError as error:
            tell(StepAborted(question.step, error.what))
            failures = (Failure.of(error, question.step),)
            break
        curves.append(found)
        seconds = monotonic() - began
        choices = {"image": found.image}
        results.append(StepResult(question.step, "prune", Outcome.RAN, "", None, seconds, (), (), choices))
        tell(StepFinished(question.step, seconds))
    return LayerVerdict(__version__, "prune", str(recipe), tuple(results), (), failures, tuple(curves))


class _Layers:
    """One model's layers, looked at in turn."""

    def __init__(self, question: LayerQuestion, seed: int, options: RunOptions, base: Path, tell: Tell) -> None:
        from mlctl.training.devices import resolve_device

        use_threads(options.threads)
        self._question = question
        self._tell = tell
        self._device = resolve_device(options.device)
        data = PreparedData.open(question.data)
        config, self._model = stored_model(question.model, base if options.allow_code else None)
        settings = question.settings
        fitting = settings.fitting
        objective = TASKS[config.task].objective(data, fitting)
        self._ground = Ground(config, data, objective, self._device, fitting.batch_size, seed)
        validation = self._ground.samples(ROWS, "validation")
        self._validation = Validation(validation, objective, fitting.batch_size, self._device)
        names = [name for name, _ in objective.watched]
        main = VOCABULARY[config.task].main
        self._figure = names.index(main) if main in names else 0

    def curves(self) -> LayerCurves:
        """All of them."""
        model, settings = self._model, self._question.settings
        example = example_of(self._ground.data.split("train").inputs, self._ground.config)
        found = dependencies(model.network, model.preprocess(*example))
        model.to(self._device)
        batches = self._ground.batches(settings.samples) if settings.importance in LOOKS_AT_ROWS else ()
        judged = importance(settings.importance, model, found, self._ground.objective, batches)
        protected = protected_layers(model.network, settings.protect)
        whole = {group.name for group in found.groups if is_protected(group, protected)}
        groups = [group for group in found.groups if group.name in judged.scores and group.name not in whole]
        name, better = self._ground.objective.watched[self._figure]
        return LayerCurves(
            self._question.step,
            name,
            better,
            self._value(model),
            self._validation.samples.count,
            str(self._question.image),
            tuple(
                LayerCurve(group.name, group.kind, group.count, tuple(self._values(found, group, judged.scores)))
                for group in self._told(groups)
            ),
            {
                **found.fixed,
                **dict.fromkeys(judged.unscored, f"importance {settings.importance} says nothing of it"),
                **dict.fromkeys(sorted(whole), PROTECTED),
            },
        )

    def _told(self, groups: list[UnitGroup]) -> Iterator[UnitGroup]:
        for number, group in enumerate(groups):
            self._tell(Progress("layers", number, len(groups), "layers", group.name))
            yield group

    def _values(self, found: Dependencies, group: UnitGroup, scores: Mapping[str, Scores]) -> Iterator[float | None]:
        order = RemovalOrder([group], scores, "layer", 1)
        before = group.count
        for share in SHARES:
            kept = group.count - floor(share * group.count + 0.5)
            # What cannot be, and what is the same as the share before.
            if kept in (0, before):
                yield None
                continue
            before = kept
            structure = structure_of(self._model.network, found, {group.name: order.units(group.name, kept)})
            cut = deepcopy(self._model)
            restructured(cut.network, structure)
            take_batch_statistics(cut, self._ground.batches(self._question.settings.samples))
            yield self._value(cut)

    def _value(self, model: CompleteModel) -> float:
        return self._validation.figures(model)[self._figure]
